"""Values of Python as words: Hydra's own grammar reads the same value."""

import math
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import example, given
from hypothesis import strategies as st

from lossbench.config import overrides
from lossbench.config.words import setting, word
from lossbench.core import ConfigError

PARSER = OverridesParser.create()
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)
NAMES = st.from_regex(r"[a-z_][a-z_0-9]{0,5}", fullmatch=True).filter(lambda name: name not in ("nan", "inf", "true"))
SINGLE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(SINGLE, lambda one: st.lists(one, max_size=3) | st.dictionaries(NAMES, one, max_size=3))


def plain(value):
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def typed(value):
    """A value with its types: 1, 1.0 and True are equal."""
    return repr(value)


@given(VALUES.filter(lambda value: "${" not in repr(value)))
@example("it's")
@example("a\\'b\\\\")
@example("a,b")
@example("1e3")
@example("Null")
@example("given.3e5.my_loss")
@example([{"a": "x y"}, "[1]"])
def test_the_grammar_reads_what_was_written(value):
    override = PARSER.parse_override(setting("key", value))
    assert not override.is_sweep_override()
    assert typed(plain(override.value())) == typed(value)


@given(VALUES.filter(lambda value: "${" not in repr(value)))
def test_settings_of_a_loss_stay_its_own_in_a_sweep(value):
    override = PARSER.parse_override(f"loss=choice({word({'focal': {'k': value}})},bce)")
    first, last = override.sweep_string_iterator()
    chosen, setting_of_it = overrides.expanded([f"loss={first}"])
    assert (chosen, last) == ("loss=focal", "bce")
    assert typed(plain(PARSER.parse_override(setting_of_it).value())) == typed(value)


def test_numbers_of_numpy_and_paths_are_values():
    assert word(np.float32(0.5)) == "0.5"
    assert word(np.int64(3)) == "3"
    assert word(Path("a/b c.csv")) == "'a/b c.csv'"
    assert math.isnan(PARSER.parse_override(setting("key", math.nan)).value())


@pytest.mark.parametrize("value", [object(), np.zeros(3), {1: 2}, {"a b": 1}, [print]])
def test_what_is_no_setting_is_refused_by_name(value):
    with pytest.raises(ConfigError, match=r"^loss\.k: .*work$"):
        setting("loss.k", value)


@pytest.mark.parametrize(
    ("written", "overridden"),
    [
        ("loss=bce", ["loss=bce"]),
        ("loss={focal:{gamma:1,alpha:null}}", ["loss=focal", "++loss.gamma=1", "++loss.alpha=null"]),
        ("loss={_target_:m.f,k:'a b'}", ["loss._target_=m.f", "++loss.k='a b'"]),
        ("model={a:1}", ["model={a:1}"]),
    ],
)
def test_a_loss_with_settings_of_its_own_is_several_overrides(written, overridden):
    assert overrides.expanded(["seed=1", written]) == ["seed=1", *overridden]


@pytest.mark.parametrize("written", ["loss={focal:1}", "loss={a:{b:1},c:{}}", "loss={}", "loss={_target_:m.f,k:[}"])
def test_another_form_of_a_loss_is_refused(written):
    with pytest.raises(ConfigError, match=r"works$"):
        overrides.expanded([written])
