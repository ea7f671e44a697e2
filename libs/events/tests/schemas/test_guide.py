"""The example of the guide does what the guide says."""

import re
import sys
from pathlib import Path
from types import ModuleType

from bizosaas_events import Codec

GUIDE = Path(__file__).parents[4] / "docs" / "guides" / "change-a-message.md"


def test_the_guides_upcaster_reads_the_old_event_as_the_new_one() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)
    module = ModuleType("guide_change_a_message")
    sys.modules[module.__name__] = module
    exec(code, vars(module))

    old = b'{"type":"account.account.paid.v1","euros":5}'
    assert Codec.of(module).decode_as("account.account.paid.v1", old) == module.Paid(cents=500)
