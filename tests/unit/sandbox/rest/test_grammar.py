"""The grammar of query strings: nothing crashes it, nothing is skipped over, text stays whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sandbox.realtime.filters import BadFilter, filter_sql
from bridge.sandbox.rest import grammar
from bridge.sandbox.rest.errors import ApiError
from bridge.sandbox.rest.grammar import Embed, Field, Filter, Logic, Ordering, Path, Selection

relaxed = settings(max_examples=60)

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in {"not", "and", "or", "in", "is"}
)
KEYS = st.one_of(NAMES, st.integers(-9, 9).map(str))
PATHS = st.builds(
    Path, NAMES, st.lists(st.tuples(st.sampled_from(["->", "->>"]), KEYS), max_size=2).map(tuple)
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PUNCTUATION = st.text('abc01.,:()"\\{}*->!_ ', max_size=30)
COMPARISONS = st.sampled_from(sorted(grammar.COMPARISONS))
FILTERS = st.one_of(
    st.builds(Filter, PATHS, COMPARISONS, TEXTS, st.booleans()),
    st.builds(Filter, PATHS, st.just("in"), st.lists(TEXTS, min_size=1, max_size=3).map(tuple)),
    st.builds(Filter, PATHS, st.just("is"), st.sampled_from(sorted(grammar.IS_VALUES))),
)
LOGIC = st.builds(
    Logic, st.sampled_from(["and", "or"]), st.lists(FILTERS, min_size=1, max_size=3).map(tuple)
)
TREES = st.recursive(
    LOGIC,
    lambda inner: st.builds(
        Logic,
        st.sampled_from(["and", "or"]),
        st.lists(st.one_of(FILTERS, inner), min_size=1, max_size=3).map(tuple),
        st.booleans(),
    ),
    max_leaves=5,
)
FIELDS = st.one_of(
    st.just(Field(Path("*"))),
    st.builds(Field, PATHS, st.none() | NAMES, st.none() | st.sampled_from(["text", "int[]"])),
)
SELECTIONS = st.recursive(
    st.builds(Selection, st.lists(FIELDS, min_size=1, max_size=3).map(tuple)),
    lambda inner: st.builds(
        Selection,
        st.lists(FIELDS, min_size=1, max_size=2).map(tuple),
        st.lists(
            st.builds(Embed, NAMES, inner, st.none() | NAMES, st.none() | NAMES, st.booleans()),
            max_size=2,
        ).map(tuple),
    ),
    max_leaves=4,
)


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def path(tree: Path) -> str:
    return tree.column + "".join(arrow + key for arrow, key in tree.steps)


def comparison(tree: Filter) -> str:
    value = (
        "(" + ",".join(map(quote, tree.value)) + ")"
        if isinstance(tree.value, tuple)
        else tree.value
        if tree.operator == "is"
        else quote(tree.value)
    )
    return f"{path(tree.path)}.{'not.' if tree.negated else ''}{tree.operator}.{value}"


def logic(tree: Logic) -> str:
    parts = [
        ("not." if part.negated else "") + part.kind + logic(part)
        if isinstance(part, Logic)
        else comparison(part)
        for part in tree.conditions
    ]
    return "(" + ",".join(parts) + ")"


def selection(tree: Selection) -> str:
    fields = [
        (f"{field.alias}:" if field.alias else "")
        + path(field.path)
        + (f"::{field.cast}" if field.cast else "")
        for field in tree.fields
    ]
    embeds = [
        (f"{embed.alias}:" if embed.alias else "")
        + embed.relation
        + (f"!{embed.hint}" if embed.hint else "")
        + ("!inner" if embed.inner else "")
        + f"({selection(embed.selection)})"
        for embed in tree.embeds
    ]
    return ",".join(fields + embeds)


@relaxed
@given(TREES)
def test_a_logic_tree_is_read_as_it_was_written(tree: Logic):
    assert grammar.parse_logic(tree.kind, logic(tree), negated=tree.negated) == tree


@relaxed
@given(SELECTIONS)
def test_a_selection_is_read_as_it_was_written(tree: Selection):
    assert grammar.parse_selection(selection(tree)) == tree


@relaxed
@given(NAMES, COMPARISONS, TEXTS, st.booleans())
def test_the_value_of_a_parameter_is_everything_after_the_operator(name, operator, text, negated):
    written = f"{'not.' if negated else ''}{operator}.{text}"
    assert grammar.parse_filter(name, written) == Filter(Path(name), operator, text, negated)


@relaxed
@given(
    st.lists(st.builds(Ordering, PATHS, st.booleans(), st.sampled_from([None, "first", "last"])))
)
def test_an_order_is_read_as_it_was_written(orderings: list[Ordering]):
    written = ",".join(
        path(one.path)
        + (".desc" if one.descending else "")
        + (f".nulls{one.nulls}" if one.nulls else "")
        for one in orderings
    )
    assert grammar.parse_order(written) == tuple(orderings)


@relaxed
@given(st.one_of(PUNCTUATION, TEXTS), st.one_of(PUNCTUATION, TEXTS))
def test_nonsense_is_refused_cleanly(name: str, text: str):
    for parse in (
        lambda: grammar.parse_selection(text),
        lambda: grammar.parse_filter(name, text),
        lambda: grammar.parse_logic("or", text),
        lambda: grammar.parse_order(text),
        lambda: grammar.parse_path(text),
        lambda: grammar.split_key(text),
    ):
        try:
            parse()
        except ApiError as error:
            assert error.status in {400, 501}


@relaxed
@given(st.one_of(PUNCTUATION, TEXTS))
def test_nonsense_in_a_realtime_filter_is_refused_cleanly(text: str):
    try:
        filter_sql(text, "r").as_string()
    except BadFilter as error:
        assert str(error)


@pytest.mark.parametrize("text", ["(" * 500 + ")" * 500, "a(" * 500 + "b" + ")" * 500])
def test_deep_nesting_is_refused(text: str):
    with pytest.raises(ApiError):
        grammar.parse_selection(text)
    with pytest.raises(ApiError):
        grammar.parse_logic("or", text)


def test_a_nul_cannot_be_a_literal_but_is_refused_later():
    assert grammar.parse_filter("a", "eq.\0").value == "\0"
