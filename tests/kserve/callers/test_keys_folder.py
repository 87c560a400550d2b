"""The folder with the keys, and the file that Envoy reads."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from server import api_keys


def test_only_valid_keys_are_accepted(tmp_path: Path) -> None:
    good = "0123456789abcdef"
    files = {
        "good": f"{good}\n".encode(),
        "longest": b"k" * 512,
        "spaces-around": b"  fedcba9876543210 \r\n",
        "double": good.encode(),
        "empty": b"",
        "short": b"0123456789abcde",
        "long": b"k" * 513,
        "endless": b"k" * 100_000,
        "two-lines": b"0123456789abcdef\n0123456789abcdef",
        "no-ascii": "schlüssel-schlüssel".encode(),
        "a name": b"0123456789abcdefg",
        ".hidden": b"0123456789abcdefh",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    keys, faults = api_keys.read(tmp_path)
    # In alphabetical order: "double" comes before "good".
    assert keys == {
        "double": good,
        "longest": "k" * 512,
        "spaces-around": "fedcba9876543210",  # pragma: allowlist secret
    }
    for name in ("good", "empty", "short", "long", "endless", "two-lines", "no-ascii", "'a name'", "'folder'"):
        assert sum(f"{name} " in fault for fault in faults) == 1, name
    for content in files.values():
        assert not content or not any(content.decode() in fault for fault in faults)


def test_the_file_for_envoy_is_the_servers_alone_and_changes_whole(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "keys", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    mask = os.umask(0)
    try:
        keys = api_keys.ApiKeys(folder, scratch)
        (file,) = scratch.iterdir()
        empty = json.loads(file.read_text())
        first = file.stat()
        keys.look()
        assert file.stat().st_ino == first.st_ino, "nothing changed"
        (folder / "one").write_text("0123456789abcdef")
        keys.look()
    finally:
        os.umask(mask)
    assert file.stat().st_ino != first.st_ino, "Envoy would not notice"
    assert stat.S_IMODE(first.st_mode) == stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in scratch.iterdir()] == [file.name]
    assert empty["resources"][0]["typed_config"]["credentials"] == []
    credentials = json.loads(file.read_text())["resources"][0]["typed_config"]["credentials"]
    assert credentials == [{"key": "0123456789abcdef", "client": "one"}]
