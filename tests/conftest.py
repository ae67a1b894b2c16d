"""Shapes are checked at run time in every test, and warnings are errors."""

from jaxtyping import install_import_hook

install_import_hook("stacx", "beartype.beartype")
