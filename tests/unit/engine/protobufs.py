"""neonize's protobuf classes without neonize: its Go library must not run in the test process."""

import importlib
import importlib.util
import sys
import types
from typing import Any

import pylibmagic  # noqa: F401 - the way the product loads it


def _load(*names: str) -> list[Any]:
    found = importlib.util.find_spec("neonize")
    assert found is not None
    hollow = types.ModuleType("neonize")
    hollow.__path__ = list(found.submodule_search_locations or [])
    before = {name for name in sys.modules if name.split(".")[0] == "neonize"}
    assert not before, "neonize is loaded in the test process"
    sys.modules["neonize"] = hollow
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "neonize"]:
            del sys.modules[name]
        for name in ("compose", "file_messages"):
            sys.modules.pop(f"bridge.engine.whatsapp.{name}", None)


wire, e2e, past, compose = _load(
    "neonize.proto.Neonize_pb2",
    "neonize.proto.waE2E.WAWebProtobufsE2E_pb2",
    "neonize.proto.waHistorySync.WAWebProtobufsHistorySync_pb2",
    "bridge.engine.whatsapp.compose",
)
