"""The packages that jdarts needs, and those of its extras."""

import platform
import sys
from importlib import metadata

from packaging.requirements import Requirement

from jdarts.doctor.findings import Finding


def packages() -> list[Finding]:
    """Python, jdarts and the packages that it needs, with those of a wrong version marked."""
    found = [Finding("python", f"{platform.python_version()} at {sys.executable}"), _of_jdarts()]
    return found + [_checked(each) for each in _requirements("")]


def extras() -> list[Finding]:
    """The optional parts of jdarts, and which packages of theirs are missing."""
    try:
        names = metadata.metadata("jdarts").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        names = []
    found = []
    for extra in names:
        wrong = [finding for each in _requirements(extra) if (finding := _checked(each)).state != "good"]
        text = "; ".join(f"{each.name} {each.text}" for each in wrong) or "complete"
        found.append(Finding(extra, text, mend=f"pip install 'jdarts[{extra}]', if you need it" if wrong else ""))
    return found


def _of_jdarts() -> Finding:
    try:
        return Finding("jdarts", metadata.version("jdarts"))
    except metadata.PackageNotFoundError:
        return Finding("jdarts", "runs from its source and is not installed", "slow", "pip install -e . in its folder")


def _requirements(extra: str) -> list[Requirement]:
    """The packages that jdarts needs; with an extra, those that only the extra needs."""
    try:
        lines = metadata.requires("jdarts") or []
    except metadata.PackageNotFoundError:
        return []
    found = [Requirement(line) for line in lines]
    if not extra:
        return [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [
        each
        for each in found
        if each.name != "jdarts"
        and each.marker
        and each.marker.evaluate({"extra": extra})
        and not each.marker.evaluate({"extra": ""})
    ]


def _checked(requirement: Requirement) -> Finding:
    mend = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(requirement.name, "is missing", "wrong", mend)
    if requirement.specifier.contains(version, prereleases=True):
        return Finding(requirement.name, version)
    return Finding(requirement.name, f"{version}, and jdarts needs {requirement.specifier}", "wrong", mend)
