"""A process that holds CHGNet and answers the stand-in: one JSON line in, one out, over a Unix socket."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from socketserver import StreamRequestHandler, UnixStreamServer
from typing import Any

import numpy as np


def ask(path: str, atoms: Any) -> dict[str, Any]:
    """Ask for energy (eV), forces (eV/Å) and stress (eV/Å³, ASE's sign, Voigt) of atoms."""
    question = {
        "numbers": atoms.numbers.tolist(),
        "cell": atoms.cell.tolist(),
        "positions": atoms.get_scaled_positions().tolist(),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(path)
        with line.makefile("rwb") as stream:
            stream.write(json.dumps(question).encode() + b"\n")
            stream.flush()
            answer = json.loads(stream.readline())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return {name: np.array(value) if name != "energy" else value for name, value in answer.items()}


def serve(path: str) -> None:
    """Load the model, then answer until killed."""
    import torch
    from chgnet.model import CHGNet
    from pymatgen.core import Structure

    torch.set_num_threads(1)
    model = CHGNet.load(verbose=False, use_device="cpu")

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            question = json.loads(self.rfile.readline())
            structure = Structure(question["cell"], question["numbers"], question["positions"])
            try:
                found = model.predict_structure(structure, task="efs")
                stress = np.asarray(found["s"], dtype=float) / 160.21766208  # GPa to eV/Å³
                answer = {
                    "energy": float(found["e"]) * len(structure),
                    "forces": np.asarray(found["f"], dtype=float).tolist(),
                    "stress": stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]].tolist(),
                }
            except ValueError as error:
                answer = {"error": str(error)}
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    Path(path).unlink(missing_ok=True)
    with UnixStreamServer(path, Handler) as server:
        print("ready", flush=True)  # noqa: T201 - the fixture waits for it
        server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1])
