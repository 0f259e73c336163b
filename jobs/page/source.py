"""Contents of the page: the catalog, and galaxies and thumbnails, which are made on the first request."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cubeprep.store import Windows, WindowStore
from cubeprep.survey import survey_facts
from cubeprep.words import counted
from jobs.page.attribution import read_maps
from jobs.page.columns import GROUPS, OTHER_COLUMNS, column_arrays, selection_csv
from jobs.page.figures import CHI2_COLOURS, FLUX_COLOURS, SIGMA_COLOURS, palette, thumbnail_of
from jobs.page.galaxy import galaxy_message
from jobs.page.pack import pack
from jobs.page.sky_image import sky_image
from jobs.page.survey_texts import (
    pretty_unit,
    score_label,
    short_provenance,
    sky,
    sky_links,
    summarise,
    usual_shares,
)
from modeling.catalog import Catalog, line_names_of
from modeling.labels.labels import Label, LabelError, append, catalog_version, current, is_word, read
from modeling.scoring.artefacts import CODES

GALAXIES_KEPT = 24  # of about 4 MB each
THUMBNAILS_KEPT = 20_000  # of about 1 kB each
LABELS = ("interesting", "usual", "artefact")  # offered on the page; `cubescout rerank` knows them by default


class UnknownGalaxyError(KeyError):
    """The catalog holds no such galaxy."""

    def __str__(self) -> str:
        return str(self.args[0])


class NotSentError(ValueError):
    """Galaxies could not be sent to other programs."""


class Source:
    """Catalog with its store, model and labels. Methods may be called from several threads."""

    def __init__(
        self,
        catalog: Catalog,
        store: WindowStore,
        *,
        catalog_path: Path,
        labels_path: Path,
        reconstruct: Callable[[Windows], np.ndarray],
        thumbnail_line: str,
        key_lines: Sequence[str] = (),
        read_windows: Callable[[str], Windows] | None = None,
        send: Callable[[Sequence[str], bool], str] | None = None,
        image_survey: str | None = None,
    ) -> None:
        """Keeps its arguments; galaxies are read on request.

        Args:
            catalog: catalog of the store.
            store: window store, for lines, velocities, windows and rejected galaxies.
            catalog_path: path of the catalog; attribution maps are beside it.
            labels_path: file to which labels are appended.
            reconstruct: returns the model's reconstruction of windows.
            thumbnail_line: line of the thumbnails; the first line if the store lacks it.
            key_lines: lines of a galaxy that are shown at first; all if the store has none of them.
            read_windows: returns the windows of a galaxy; by default those of the store.
            send: sends galaxies to other programs, as a table or each one's position, and returns a summary that names
                the programs, or raises ValueError; without it the page has no buttons for that.
            image_survey: survey of the images of the sky, a key of `sky_image.SURVEYS`; None for no images.

        Raises:
            ValueError: images of the sky are impossible.
        """
        self.catalog, self._store = catalog, store
        self._catalog_path, self._labels_path = catalog_path, labels_path
        self._send = send
        self._reconstruct, self._read = reconstruct, read_windows or store.read_galaxy
        lines = store.line_names
        self.thumbnail_line = thumbnail_line if thumbnail_line in lines else lines[0]
        self._key_lines = [name for name in key_lines if name in lines]
        rest_wave = store.coordinate(store.splits[0], "rest_wave").tolist()
        self._lines = dict(zip(lines, rest_wave, strict=True))
        self._usual = usual_shares(catalog.table, line_names_of(catalog.table))
        self._index = {str(name): i for i, name in enumerate(catalog.table["plateifu"])}
        self.version = catalog_version(catalog_path)
        self.sky_image = sky_image(image_survey, survey_facts(store.attrs), store.shape[2])
        self.galaxy = lru_cache(GALAXIES_KEPT)(self._galaxy)
        self.thumbnail = lru_cache(THUMBNAILS_KEPT)(self._thumbnail)

    def survey(self) -> bytes:
        """Message with all columns, and facts about the survey as metadata."""
        described, arrays = column_arrays(self.catalog)
        facts = survey_facts(self._store.attrs)
        colours = {"flux": FLUX_COLOURS, "sigma": SIGMA_COLOURS, "chi2": CHI2_COLOURS}
        meta: dict[str, Any] = {
            "columns": described,
            "groups": [*GROUPS, OTHER_COLUMNS],
            "version": self.version,
            "provenance": short_provenance(self.catalog.provenance),
            "summary": summarise(self.catalog, self._store),
            "score_label": score_label(self.catalog),
            "flux_unit": pretty_unit(str(self._store.attrs["flux_unit"])),
            "sky": sky(facts, self._store.shape[2]),
            "sky_links": sky_links(facts),
            "sky_image": self.sky_image,
            "spaxel_arcsec": facts.spaxel_arcsec,
            "north_up": facts.north_up,
            "velocity_kms": self._store.coordinate(self._store.splits[0], "velocity_kms").tolist(),
            "thumbnail_line": self.thumbnail_line,
            "key_lines": self._key_lines,
            "palettes": {name: palette(value).tolist() for name, value in colours.items()},
            "labels": list(LABELS),
            "sends": self._send is not None,
            "triage_codes": {code: meaning for code, meaning in CODES.items() if code},
            "usual_shares": self._usual,
        }
        return pack(meta, arrays)

    def labels(self) -> dict[str, str]:
        """Current labels, by plateifu."""
        return {str(name): str(label) for name, label in current(read(self._labels_path)).items()}

    def add_label(self, plateifu: str, label: str, note: str = "") -> None:
        """Appends a label to the file; an empty one withdraws the label.

        Raises:
            UnknownGalaxyError: the catalog holds no such galaxy.
            ValueError: the label is too long, or no word.
        """
        self._row(plateifu)
        if label and not is_word(label):
            raise LabelError(f"the label is {label}, expected a word such as artefact")
        append(self._labels_path, [Label(plateifu=plateifu, label=label, note=note, catalog=self.version)])

    def send(self, names: Sequence[str], *, as_table: bool) -> str:
        """Sends galaxies to other programs, as a table or each one's position; returns a summary naming the programs.

        Raises:
            UnknownGalaxyError: the catalog holds no such galaxy.
            NotSentError: they could not be sent.
        """
        for name in names:
            self._row(name)
        if self._send is None:
            raise NotSentError("this page does not send galaxies to other programs")
        try:
            return self._send(names, as_table)
        except ValueError as error:
            raise NotSentError(str(error)) from error

    def csv(self, names: Sequence[str]) -> str:
        """CSV with the catalog's rows of galaxies, in the order of `names`.

        Raises:
            UnknownGalaxyError: the catalog holds no such galaxy.
        """
        for name in names:
            self._row(name)
        return selection_csv(self.catalog.table, names, self.labels())

    def _galaxy(self, plateifu: str) -> bytes:
        row = self._row(plateifu)
        windows = self._read(plateifu)
        return galaxy_message(
            row,
            windows,
            self._reconstruct(windows),
            lines=self._lines,
            usual_shares=self._usual,
            attribution=read_maps(self._catalog_path, plateifu, self.catalog.created_utc),
        )

    def _thumbnail(self, plateifu: str) -> bytes:
        self._row(plateifu)
        return thumbnail_of(self._read(plateifu), self._store.line_names.index(self.thumbnail_line))

    def _row(self, plateifu: str) -> dict[Any, Any]:
        if plateifu not in self._index:
            raise UnknownGalaxyError(f"{plateifu}: not among the {counted(len(self._index), 'galaxy')} of the catalog")
        return dict(self.catalog.table.iloc[self._index[plateifu]])
