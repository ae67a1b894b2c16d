"""What settings and metaparameters are called, on the command line and in messages."""

from __future__ import annotations

from collections.abc import Iterable

from stacx.agents import METAPARAMETERS, VARIANTS
from stacx.errors import ConfigError


def flag_of(field: str) -> str:
    """The command line's name of a setting: `lambda_` is `--lambda`."""
    return "--" + field.rstrip("_").replace("_", "-")


def field_of(metaparameter: str) -> str:
    """The field that has a metaparameter's outer value: that of `lambda` is `lambda_`."""
    return "lambda_" if metaparameter == "lambda" else metaparameter


def listed(names: Iterable[str]) -> str:
    """a, b or c."""
    *init, last = list(names)
    return f"{', '.join(init)} or {last}"


def canonical_tune(tune: str) -> str:
    """What `--tune` stands for: none, or names in the order of `METAPARAMETERS` and `VARIANTS`.

    Raises:
        ConfigError: for anything else.
    """
    names = [name.strip() for name in tune.split(",") if name.strip()]
    if "all" in names and len(names) > 1:
        raise ConfigError(
            f"--tune all stands for {','.join(METAPARAMETERS)}: beside others, name each of them"
        )
    if names == ["all"]:
        names = list(METAPARAMETERS)
    if names in (["none"], []):
        return "none"
    for name in names:
        if name not in METAPARAMETERS + VARIANTS:
            known = listed(METAPARAMETERS + VARIANTS)
            raise ConfigError(f"unknown metaparameter {name!r} in --tune: use all, none, {known}")
    if "alpha" in names and {"alpha_rho", "alpha_c"} & set(names):
        raise ConfigError("--tune alpha stands for alpha_rho and alpha_c: name it, or these")
    return ",".join(name for name in METAPARAMETERS + VARIANTS if name in names)
