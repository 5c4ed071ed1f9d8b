"""Why no performance is estimated without labels."""

from enum import StrEnum


class Reason(StrEnum):
    NO_SCORES = "no_scores"
    NAMES_UNKNOWN = "names_unknown"
    BROKEN_DATA = "broken_data"
    TOO_FEW_ROWS = "too_few_rows"
    TOO_FEW_LABELS = "too_few_labels"
    LABELS_DISAGREE = "labels_disagree"
    BEYOND_LABELS = "beyond_labels"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Reason.NO_SCORES: "the answers come without probabilities of two classes",
    Reason.NAMES_UNKNOWN: "most rows' largest score is not of the class that was answered",
    Reason.BROKEN_DATA: "rows of this window were answered while the data was broken",
    Reason.TOO_FEW_ROWS: "too few rows were answered",
    Reason.TOO_FEW_LABELS: "too few labels had come before this window to calibrate the scores by",
    Reason.LABELS_DISAGREE: "newer labels disagree with what the scores meant before: the concept "
    "or the share of the classes has changed",
    Reason.BEYOND_LABELS: "rows have scores that too few labelled rows had",
}
