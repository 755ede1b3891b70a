"""The user's options of execution providers: read, and refused in words that help.

Where ONNX Runtime parses the options itself it refuses an unknown name or an impossible value, so
what is valid is asked of it; such a provider's ``keys`` only help to say what was meant. A plugin
takes whatever it is given and ignores what it does not know, so its ``values`` are checked here.
Those that Backlit chooses stand in the provider's row.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

from ..errors import OptionError
from .provider import Options, Values
from .providers.table import PROVIDERS


def parse(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """``PROVIDER.KEY=VALUE`` texts as options; of one key the last counts.

    Args:
        texts: such as ``cuda.use_tf32=0``; the provider is a short name.

    Raises:
        OptionError: not of that form, or no such provider.
    """
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        name, _, setting = text.partition(".")
        key, equals, value = setting.partition("=")
        name, key = name.strip().lower(), key.strip()
        if not (name and key and equals):
            raise OptionError(
                f"{text!r} is no provider option.", "write PROVIDER.KEY=VALUE: cuda.use_tf32=0."
            )
        if name not in PROVIDERS:
            raise OptionError(
                f"{text!r}: there is no execution provider {name!r}.",
                f"choose among {', '.join(PROVIDERS)}.",
            )
        options.setdefault(name, {})[key] = value.strip()
    return options


def check_names(options: Options | None, taken: Collection[str]) -> None:
    """Refuse options that no provider would read.

    Args:
        options: the user's.
        taken: short names of the providers that the session is opened on.

    Raises:
        OptionError: for a provider that is not among them, or for one that has no options; an
            option that Backlit checks itself is none, or does not take the value.
    """
    for name, own in (options or {}).items():
        for key, value in own.items():
            if name not in taken:
                raise OptionError(
                    f"{name}.{key}={value} is an option of {name}, which is not used: the file "
                    f"runs on {', '.join(taken)}.",
                    f"add --providers {name}, or leave the option out.",
                )
            row = PROVIDERS[name]
            if not row.options:
                raise OptionError(
                    f"{name}.{key}={value}: the {name} provider has no options.",
                    "leave it out; --threads bounds its threads.",
                )
            if key in row.values:
                _check(f"{name}.{key}={value}", value, row.values[key])
            elif row.values:
                raise _unknown(name, key)


def _check(given: str, value: str, takes: Values) -> None:
    if takes is int and not re.fullmatch(r"[0-9]{1,18}", value):
        raise OptionError(f"{given}: not a whole number.", "give one, 0 or more.")
    if isinstance(takes, tuple) and value not in takes:
        raise OptionError(f"{given}: no such choice.", f"choose among {', '.join(takes)}.")


# ONNX Runtime 1.31's own words; every one names the option, except for a number in TensorRT.
_UNKNOWN = re.compile(r'Unknown provider option: "([^"]*)"|Invalid \w+ EP option: (\S+)')
_VALUE = re.compile(r'provider option "([^"]*)":? ?(.*)|value for the key \'([^\']*)\' (.*)')
# OpenVINO's, of a property in load_config.
_PROPERTY = re.compile(r"Unsupported property \S+ by \S+ plugin|Wrong value .* for property key .*")
_NUMBER = re.compile(r"\bsto[a-z]+$")


def refused(text: str, options: Options | None) -> OptionError | None:
    """The error for an option that ONNX Runtime refuses; None if its message is of another kind.

    Args:
        text: ONNX Runtime's message.
        options: the user's; without any, none can be wrong.
    """
    given = {
        key: (name, value) for name, own in (options or {}).items() for key, value in own.items()
    }
    if match := _UNKNOWN.search(text):
        key = match[1] or match[2]
        name = given[key][0] if key in given else ""
        return _unknown(name, key) if name else None
    match = _VALUE.search(text)
    key = (match[1] or match[3]) if match else ""
    if match and key in given:
        name, value = given[key]
        why = (match[2] or match[4] or "").removesuffix(".").strip()
        return OptionError(
            f"{name}.{key}={value}: {_reason(why)}.", f"see ONNX Runtime's documentation of {key}."
        )
    if match := _PROPERTY.search(text):
        name = next((name for name, own in (options or {}).items() if "load_config" in own), "")
        what = match[0][0].lower() + match[0][1:].rstrip(".")
        fix = "correct it; OpenVINO's documentation lists the properties of a device."
        return OptionError(f"{name}.load_config: {what}.", fix) if name else None
    if _NUMBER.search(text.strip()) and given:
        listed = ", ".join(f"{name}.{key}={value}" for key, (name, value) in given.items())
        return OptionError(f"not a number, where one is wanted, in {listed}.", "give a number.")
    return None


def _unknown(name: str, key: str) -> OptionError:
    keys = PROVIDERS[name].options
    close = difflib.get_close_matches(key.lower(), keys, n=1, cutoff=0.75)
    return OptionError(
        f"the {name} provider has no option {key!r}.",
        f"did you mean {name}.{close[0]}?" if close else f"choose among {', '.join(keys)}.",
    )


def _reason(text: str) -> str:
    """ONNX Runtime's reason without the place in its source."""
    text = re.sub(r"^\S+\.(?:h|cc):\d+ (?:operator\(\)|\w+) ", "", text.strip())
    # What it prints here is not the value that it was given.
    text = re.sub(r"Failed to parse value: .*", "not a value of its type", text)
    text = re.sub(r"Failed to map enum name to value: .*", "no such choice", text)
    return text.rstrip(".") or "not a value that it takes"
