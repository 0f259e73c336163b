"""The table of a store's galaxies, made from its targets and the records of its shards.

As Python objects a row takes several kB, so the table is never whole in memory. The records are read twice, some at a
time: first for what concerns all rows (the columns, the counts and the survey's flux level), then for the rows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

import pandas as pd

from cubeprep.cube import Target
from cubeprep.extract import CORRELATED_NOISE
from cubeprep.layout import SplitPlan
from cubeprep.outcome import Outcome
from cubeprep.plausible import survey_doubts
from cubeprep.redact import redact
from cubeprep.store import ROWS_PER_GROUP, StoreError, WindowStore

MEASURED = ("covered", "median_snr", "z_used", "z_offset_kms", "z_offset_snr", "z_flag", "velocity", "source_checksum")
STARS = ("stellar_velocity_kms", "stellar_sigma_kms", "d4000", "stellar_age_gyr", "stellar_chi2", "stellar_share")
PLAUSIBLE = ("noise_ratio", "signal_share", "flux_level", "implausible", "remarks")
RECORDS_AT_ONCE = 32
# Records of earlier versions lack the quantities added since.
NOTHING_KNOWN = asdict(Outcome(""))


class GalaxyTable:
    """One row per target, in their order.

    Attributes:
        summary: counts of the rows, as in the store's summary.
        implausible: implausible values of accepted galaxies by name, in words.
    """

    def __init__(self, store: WindowStore, targets: Sequence[Target], splits: Mapping[str, SplitPlan]) -> None:
        """Reads the records for the first time.

        Args:
            store: a store whose shards are all written.
            targets: all targets of the survey, rejected ones included.
            splits: plan of each split, by name.

        Raises:
            StoreError: there is no outcome of a target.
        """
        self._store, self._targets, self._splits = store, targets, splits
        # A value of each column, None if it has none: each group of rows must have the types of the whole table.
        self._values: dict[str, Any] = {}
        self.implausible: dict[str, str] = {}
        levels: dict[str, float] = {}
        rejected, accepted, counts = Counter[str](), Counter[str](), Counter[str]()
        for row in self._rows():
            self._values |= {name: value for name, value in row.items() if self._values.get(name) is None}
            if row["implausible"]:
                self.implausible[row["plateifu"]] = row["implausible"]
            counts["redshift_flags"] += bool(row["z_flag"])
            remarks = [remark for remark in row["remarks"].split("; ") if remark]
            correlated = [remark for remark in remarks if remark.startswith(CORRELATED_NOISE)]
            counts["correlated_noise"] += bool(correlated)
            counts["remarks"] += len(remarks) > len(correlated)
            counts["velocity_corrected"] += row["velocity"] == "corrected"
            if row["code"]:
                rejected[row["code"]] += 1
                continue
            accepted[row["split"]] += 1
            if row["flux_level"] is not None:
                levels[row["plateifu"]] = float(row["flux_level"])
        for name, doubt in survey_doubts(levels).items():
            self.implausible[name] = "; ".join(filter(None, (self.implausible.get(name), doubt)))
        self.summary: dict[str, Any] = {
            "identity": store.identity,
            "galaxies": len(targets),
            "accepted": accepted.total(),
            "rejected": rejected.total(),
            "redshift_flags": counts["redshift_flags"],
            "implausible": len(self.implausible),
            "remarks": counts["remarks"],
            "correlated_noise": counts["correlated_noise"],
            "velocity_corrected": counts["velocity_corrected"],
            "reasons": dict(sorted(rejected.items())),
            "splits": {name: accepted[name] for name in splits},
        }

    def groups(self) -> Iterator[pd.DataFrame]:
        """Yields the rows `ROWS_PER_GROUP` at a time; reads the records again."""
        rows = self._rows()
        columns = sorted(self._values, key="source".__eq__)  # last, also where the first galaxy has no lines
        numbers = {name: float for name, value in self._values.items() if isinstance(value, float)}
        while group := list(islice(rows, ROWS_PER_GROUP)):
            for row in group:
                row["implausible"] = self.implausible.get(row["plateifu"], "")
            frame = pd.DataFrame({name: [row.get(name) for row in group] for name in columns}).astype(numbers)
            group.clear()  # before the next one is made
            yield frame

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Rows with the values of the columns, by name; the implausible values are those of the galaxy's own record."""
        split_of = {name: split for split, members in self._splits.items() for name in members.plateifu}
        outcomes = {split: _Outcomes(self._store, split, members.plateifu) for split, members in self._splits.items()}
        for target in self._targets:
            split = split_of.get(target.plateifu, "")
            yield _row(target, {} if target.rejected else outcomes[split].pop(target.plateifu), split)


class _Outcomes:
    """Outcomes of the galaxies of one split, which are taken out in about the order of the records."""

    def __init__(self, store: WindowStore, split: str, members: Sequence[str]) -> None:
        self._records = store.iter_records(RECORDS_AT_ONCE, split)
        self._where, self._members = f"{store.path}/records", members
        self._held: dict[str, Mapping[str, Any]] = {}

    def pop(self, plateifu: str) -> Mapping[str, Any]:
        """Outcome of a galaxy, which is not held any longer.

        Raises:
            StoreError: the records lack it, or one of them is damaged.
        """
        while plateifu not in self._held:
            records = next(self._records, None)
            if records is None:
                later = self._members[list(self._members).index(plateifu) :]
                unknown = ", ".join([name for name in later if name not in self._held][:3])
                again = "Delete the store's folder `records` and run `cubescout prepare` again."
                raise StoreError(f"{self._where}: no outcome of {unknown}. {again}")
            self._held |= {row["plateifu"]: row for record in records.values() for row in record}
        return self._held.pop(plateifu)


def _row(target: Target, found: Mapping[str, Any], split: str) -> dict[str, Any]:
    outcome = NOTHING_KNOWN | dict(found)
    code, reason = target.rejected or (outcome["code"], outcome["reason"])
    return {
        "plateifu": target.plateifu,
        "mangaid": target.mangaid,
        "z": target.z,
        "ra_deg": target.ra_deg if outcome["ra_deg"] is None else outcome["ra_deg"],
        "dec_deg": target.dec_deg if outcome["dec_deg"] is None else outcome["dec_deg"],
        "re_arcsec": target.re_arcsec,
        "wcs": outcome["wcs"],
        "split": split,
        "status": "rejected" if code else "accepted",
        "code": code,
        "reason": redact(reason),
        **{name: outcome[name] for name in (*MEASURED, *PLAUSIBLE, *STARS)},
        "remarks": redact(outcome["remarks"]),  # records of earlier versions were not redacted
        "velocity": redact(outcome["velocity"]),
        **outcome["lines"],
        "source": outcome["source"] or target.source,
    }
