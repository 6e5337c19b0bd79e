"""Training data: from a folder of rasters to an immutable version in the record, and back."""


class DatasetError(Exception):
    """A dataset is not as it should be; ``problems`` are sentences that each name a file.

    >>> print(DatasetError(["train/a.tif has no labels", "train/b.tif cannot be read"]))
    2 problems in the dataset:
    - train/a.tif has no labels
    - train/b.tif cannot be read
    """

    SHOWN = 20

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        lines = [f"{len(self.problems)} problems in the dataset:"]
        lines += [f"- {problem}" for problem in self.problems[: self.SHOWN]]
        if len(self.problems) > self.SHOWN:
            lines.append(f"- and {len(self.problems) - self.SHOWN} more")
        return "\n".join(lines)
