"""Tables of recommended cutoffs: those of SSSP, and the ``cutoffs.json`` of a folder."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dft_inputs.pseudos.manifest import Cutoff, FileName, Hint, ManifestError, Symbol


class TableEntry(BaseModel):
    """What a table says of one element.

    Either SSSP's keys or ours; SSSP's further keys (which library a file is from) are passed over.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    filename: FileName | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$")] | None = None
    cutoff_wfc: Cutoff | None = None
    cutoff_rho: Annotated[float, Field(gt=0, le=20_000)] | None = None
    ecutwfc_ry: dict[Hint, Cutoff] | None = None
    dual: Annotated[float, Field(ge=4, le=20)] | None = None

    def cutoffs(self) -> dict[Hint, float]:
        """Give the cutoffs (Ry) by hint; a table with a single recommendation gives it for all three."""
        if self.ecutwfc_ry:
            return dict(self.ecutwfc_ry)
        if self.cutoff_wfc is None:
            return {}
        return {"low": self.cutoff_wfc, "normal": self.cutoff_wfc, "high": self.cutoff_wfc}

    def dual_or(self, otherwise: float) -> float:
        """Give the ratio of the density's cutoff to that of the wavefunctions, never below 4."""
        if self.dual is not None:
            return self.dual
        if self.cutoff_wfc and self.cutoff_rho:
            return max(4.0, self.cutoff_rho / self.cutoff_wfc)
        return otherwise


_TABLE = TypeAdapter(dict[Symbol, TableEntry])


def parse_table(content: bytes, where: str) -> dict[str, TableEntry]:
    """Read a table.

    Raises
    ------
    ManifestError
        If it is no such table; the message begins with ``where``.
    """
    try:
        return _TABLE.validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{where}: {place + ': ' if place else ''}{first['msg']}") from error
