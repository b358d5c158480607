// Roles and users, least privilege first; safe to repeat: what there is already gets the roles and the password again.
// Run by start.js, signed in as the administrator.
const files = require("fs");
const password = (name) => files.readFileSync(`/run/secrets/${name}`, "utf8").trim();

// One line for each database. A group whose members must not see each other's campaigns has a line for each of them,
// and a secret by the name of each user (compose.yaml, secrets.sh).
const people = [{ database: "nucleate", writes: "campaign", reads: "viewer" }];

const ensureRole = (base, role, privileges) => {
  if (base.getRole(role)) base.updateRole(role, { privileges, roles: [] });
  else base.createRole({ role, privileges, roles: [] });
};
const ensureUser = (base, user, roles) => {
  const wanted = { pwd: password(user), roles, mechanisms: ["SCRAM-SHA-256"] };
  if (base.getUser(user)) base.updateUser(user, wanted);
  else base.createUser({ user, ...wanted });
};

for (const one of people) {
  const base = db.getSiblingDB(one.database);
  const everything = { db: one.database, collection: "" };
  // What FireWorks, jobflow, GridFS and Nucleate do. Not in it: dropDatabase, users, other databases, the server.
  ensureRole(base, "nucleateCampaign", [
    {
      resource: everything,
      actions: [
        "find", "insert", "update", "remove",
        "createCollection", "createIndex", "dropIndex", "listCollections", "listIndexes",
        "collStats", "dbStats", "killCursors",
      ],
    },
  ]);
  ensureRole(base, "nucleateViewer", [
    { resource: everything, actions: ["find", "listCollections", "listIndexes", "collStats", "dbStats", "killCursors"] },
  ]);
  ensureUser(base, one.writes, [{ role: "nucleateCampaign", db: one.database }]);
  ensureUser(base, one.reads, [{ role: "nucleateViewer", db: one.database }]);
}

// Backups read and write whole databases and can't make users.
ensureUser(db.getSiblingDB("admin"), "backup", ["backup", "restore"]);
print("roles and users are there");
