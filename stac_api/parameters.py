"""Parameters of a request that are numbers or truth values, read strictly."""

import re

from starlette.requests import Request

from stac_api.problems import Fault, Problem, pointer

_NO_NUMBER = "Input should be a valid integer, unable to parse string as an integer"
_NO_TRUTH = "Input should be a valid boolean, unable to interpret input"
_NUMBER = re.compile(r"\A[+-]?[0-9]{1,18}\Z")
_TRUTH = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


class Parameters:
    """Reads the parameters of one request, and names all that are wrong with them at once."""

    def __init__(self, request: Request) -> None:
        self._given = request.query_params
        self._wrong: dict[str, str] = {
            name: "is given twice" for name in self._given if len(self._given.getlist(name)) > 1
        }

    def number(self, name: str, at_least: int, default: int | None = None) -> int:
        """A whole number; without a default it must be given."""
        text = self._given.get(name)
        if text is None:
            if default is None:
                self._wrong[name] = "Field required"
            return default or 0
        if not _NUMBER.match(text):
            self._wrong[name] = _NO_NUMBER
            return at_least
        if int(text) < at_least:
            self._wrong[name] = f"Input should be greater than or equal to {at_least}"
        return int(text)

    def truth(self, name: str) -> bool:
        """Whether a parameter says yes; no where it is not given."""
        truth = _TRUTH.get(self._given.get(name, "false").lower())
        if truth is None:
            self._wrong[name] = _NO_TRUTH
        return truth or False

    def check(self) -> None:
        """400 when anything that was read is wrong."""
        if self._wrong:
            faults = [Fault(pointer("query", name), why) for name, why in self._wrong.items()]
            said = "; ".join(f"query.{name}: {why}" for name, why in self._wrong.items())
            raise Problem(400, f"The request is not valid: {said}.", faults)
