// Starts the replica set and makes the administrator, then roles and users; safe to repeat.
// docker compose exec -T mongodb mongosh --quiet --file /setup/start.js
// (with TLS add: --tls --tlsCAFile /tls/ca.pem)
const fs = require("fs");
const secret = (name) => fs.readFileSync(`/run/secrets/${name}`, "utf8").trim();
const admin = db.getSiblingDB("admin");

const signIn = () => {
  try {
    admin.auth("admin", secret("admin"));
    return true;
  } catch (error) {
    return false;
  }
};

let known = signIn();
if (!known) {
  // Before the first user exists, mongod lets this host's own connections do this and nothing else.
  try {
    rs.initiate({ _id: "nucleate", members: [{ _id: 0, host: `${process.env.MONGO_NAME}:27017` }] });
  } catch (error) {
    if (error.codeName !== "AlreadyInitialized" && error.codeName !== "Unauthorized") throw error;
  }
  for (let left = 60; !db.hello().isWritablePrimary; left -= 1) {
    if (left === 0) throw new Error("no primary after 60 s; see: docker compose logs mongodb");
    sleep(1000);
  }
  admin.createUser({
    user: "admin",
    pwd: secret("admin"),
    roles: ["userAdminAnyDatabase", "clusterAdmin"], // makes users; reads no campaign
  });
  known = signIn();
}
if (!known) throw new Error("the password in secrets/admin is not the administrator's");
load("/setup/users.js");
print("ready");
