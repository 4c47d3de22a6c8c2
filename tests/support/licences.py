"""`python -m tests.support.licences`: may we ship what we depend on?

Every dependency of the installed program, direct and transitive, must have a licence from `RUNTIME`; what only
development needs may also have one from `DEVELOPMENT`. pip-licenses reads what the packages say of themselves;
their words are brought to SPDX here, and an expression holds if its allowed parts are enough for it.
Prints the packages at fault as a table and exits with 1.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROGRAM = "crossfade"
SHIPPED_EXTRAS = frozenset({"", "edge"})

# Permissive, or (MPL) binding only to changes of the package's own files, which we do not make.
RUNTIME = frozenset(
    "0BSD Apache-2.0 BSD-2-Clause BSD-3-Clause CC0-1.0 ISC MIT MIT-0 MPL-2.0 PSF-2.0 Unlicense Zlib".split()  # noqa: SIM905
)
DEVELOPMENT = RUNTIME | {"LGPL-2.1-or-later", "LGPL-3.0-or-later", "Python-2.0"}

# What packages write where SPDX has a name for it.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "DFSG approved": "MIT",  # a classifier beside the real licence
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    licence: str  # in the package's own words, its first line


def installed() -> list[Package]:
    """What pip-licenses finds in this environment."""
    command = [sys.executable, "-m", "piplicenses", "--python", sys.executable, "--format=json", "--with-system"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [Package(one["Name"], one["Version"], one["License"].partition("\n")[0].strip()) for one in found]


def shipped(program: str = PROGRAM) -> set[str]:
    """Canonical names of all packages that an installation of the program brings."""
    found: set[str] = set()
    waiting = [(program, SHIPPED_EXTRAS)]
    while waiting:
        name, extras = waiting.pop()
        for needed, its_extras in _needs(name, extras):
            if needed not in found:
                found.add(needed)
                waiting.append((needed, its_extras))
    return found - {canonicalize_name(program)}


def _needs(name: str, extras: Collection[str]) -> Iterator[tuple[str, frozenset[str]]]:
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:  # asked for by a marker of another platform
        return
    for line in lines:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield canonicalize_name(requirement.name), frozenset({"", *requirement.extras})


def allowed(licence: str, names: Collection[str]) -> bool:
    """Whether the licence, in a package's own words, is covered by the SPDX `names`. Several classifiers
    (separated by ";") must all be."""
    return all(_holds(SPDX.get(part.strip(), part.strip()), names) for part in licence.split(";"))


def _holds(expression: str, names: Collection[str]) -> bool:
    """An SPDX expression with AND, OR and brackets. OR binds weaker, as in SPDX."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression)

    def either() -> bool:
        held = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            held = both() or held
        return held

    def both() -> bool:
        held = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            held = one() and held
        return held

    def one() -> bool:
        token = tokens.pop(0) if tokens else ")"
        if token != "(":
            return token in names
        held = either()
        return bool(tokens) and tokens.pop(0) == ")" and held

    held = either()
    return held and not tokens


def faults(packages: Collection[Package], runtime: Collection[str]) -> list[tuple[Package, str]]:
    """The packages whose licence is not allowed where they are used (runtime, development)."""
    found = []
    for package in packages:
        name = canonicalize_name(package.name)
        if name == PROGRAM:
            continue
        use, names = ("runtime", RUNTIME) if name in runtime else ("development", DEVELOPMENT)
        if not allowed(package.licence, names):
            found.append((package, use))
    return found


def main() -> int:
    packages, runtime = installed(), shipped()
    missing = runtime - {canonicalize_name(package.name) for package in packages}
    wrong = faults(packages, runtime)
    for package, use in wrong:
        print(f"{use:<12} {package.name:<32} {package.version:<12} {package.licence}")
    if wrong:
        print(f"{len(wrong)} licence(s) that are not allowed; see tests/support/licences.py")
    else:
        print(f"licences: {len(runtime) - len(missing)} runtime and {len(packages)} packages in all are fine")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
