"""Confusion matrix: hypotheses assigned to each family, by amplitude."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.anomaly.dataset import Data
from benchmarks.anomaly.evaluate import Entry
from benchmarks.anomaly.inject import REACH_FACTOR

# The right hypothesis for each family; families without one are not evaluated. Kept here, since no other package may
# know the families.
RIGHT = {
    "broad_halpha": "broad_balmer",
    "offnuclear_agn": "agn_ratios",
    "blueberry": "metal_poor",
    "double_peaked": "double_peak",
    "outflow_wing": "wing",
    "background_emitter": "foreign_line",
    "cosmic_ray": "spike",
    "sky_line_stripe": "sky_line",
    "dead_fibre": "lost_light",
    "wrong_redshift": "redshift",
    "half_spaxel_shift": "shifted_images",
}
# Least amplitude included in the accuracy.
CLEAR_AMPLITUDE = 1000.0
NONE = "none"


def confusion(data: Data, entry: Entry) -> pd.DataFrame:
    """Rows of each family and amplitude that got each hypothesis, [family, amplitude] x hypothesis, over all runs.

    Clean galaxies and families N are rows too; their amplitude is 0. A galaxy without a hypothesis is `none`.
    """
    rows = data.rows
    amplitude = rows["wanted"].fillna(0)
    found = [
        pd.DataFrame({"family": rows["family"].replace("", "clean"), "amplitude": amplitude, "hypothesis": names})
        for names in entry.hypotheses.values()
    ]
    table = pd.concat(found).replace({"hypothesis": {"": NONE}})
    return table.groupby(["family", "amplitude", "hypothesis"]).size().unstack(fill_value=0)


def accuracy(data: Data, entry: Entry, kind: str = "A") -> float:
    """Share of the injections of a kind, of `CLEAR_AMPLITUDE` and above, that got the right hypothesis.

    Injections that fell short of it by more than an injection may are left out.
    """
    rows = data.rows
    clear = (rows["wanted"] >= CLEAR_AMPLITUDE) & (rows["snr"] >= CLEAR_AMPLITUDE / REACH_FACTOR)
    judged = ((rows["kind"] == kind) & clear & rows["family"].isin(RIGHT)).to_numpy()
    if not (judged.any() and entry.hypotheses):
        return float("nan")
    right = rows["family"].map(RIGHT).to_numpy()[judged]
    shares = [float(np.mean(names[judged] == right)) for names in entry.hypotheses.values()]
    return float(np.mean(shares))


def tables(data: Data, entries: Sequence[Entry]) -> list[tuple[str, pd.DataFrame]]:
    """Title and confusion matrix, at `CLEAR_AMPLITUDE` and above, of each detector with hypotheses."""
    found = []
    for entry in entries:
        if entry.hypotheses:
            counts = confusion(data, entry).reset_index("amplitude")
            clear = (counts["amplitude"] >= CLEAR_AMPLITUDE) | (counts["amplitude"] == 0)
            table = counts[clear].drop(columns="amplitude").groupby("family").sum()
            found.append((entry.name, table.loc[:, table.any()]))
    return found
