"""What an explanation should show: `class` and `form` in the parameters."""

from __future__ import annotations

from vision.errors import MalformedField
from vision.protocol.request import FORMS, Wish
from vision.worker.settings import Limits

CLASS, FORM = "class", "form"
NAMES = (CLASS, FORM)
BELONGS = f'belongs in parameters: "parameters": {{"{CLASS}": 281, "{FORM}": "{Wish.form}"}}'


def of_parameters(parameters: object, limits: Limits) -> Wish:
    """Raises MalformedField (400). Other parameters are checked elsewhere."""
    if not isinstance(parameters, dict):
        return Wish()
    index, form = parameters.get(CLASS, 0), parameters.get(FORM, Wish.form)
    if type(index) is not int or not 0 <= index < limits.classes:  # bool is an int too
        raise MalformedField(f"parameters.{CLASS}", f"expected an index from 0 to {limits.classes - 1}")
    if form not in FORMS:
        raise MalformedField(f"parameters.{FORM}", f"expected one of {', '.join(FORMS)}")
    return Wish(index if CLASS in parameters else None, form)


def refuse_elsewhere(body: dict[str, object]) -> None:
    """Raises MalformedField (400) if they are anywhere in a body outside its parameters."""
    left: list[object] = [{name: value for name, value in body.items() if name != "parameters"}]
    while left:
        found = left.pop()
        if isinstance(found, dict):
            if names := [name for name in NAMES if name in found]:
                raise MalformedField(names[0], BELONGS)
            found = list(found.values())
        if isinstance(found, list):
            left.extend(value for value in found if isinstance(value, (dict, list)))
