"""Features made of features: in which order they are computed, and of which types they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from features.dtypes import DType
from features.errors import DefinitionError
from features.expression_types import infer
from features.expressions import Call, Expr, Ref
from features.naming import did_you_mean


def read_features(expr: Expr) -> tuple[str, ...]:
    """The features that an expression refers to, as written in ``ref``."""
    return tuple(name[1:] for name in expr.names() if name.startswith("@"))


def evaluation_order(
    place: str, derived: Mapping[str, Expr], given: Collection[str]
) -> tuple[str, ...]:
    """The derived features, each after those it reads; references to other views are left alone.

    Raises DefinitionError for an unknown feature and for a circle.
    """
    order: dict[str, None] = {}
    for name in derived:
        _visit(place, derived, given, (name,), order)
    return tuple(order)


def _visit(
    place: str,
    derived: Mapping[str, Expr],
    given: Collection[str],
    path: tuple[str, ...],
    order: dict[str, None],
) -> None:
    name = path[-1]
    if name in path[:-1]:
        raise DefinitionError(
            f"{place}:{name} is made of itself: {' → '.join(path)}",
            "Let one of them read an aggregation instead.",
        )
    if name in order or name in given or ":" in name:
        return
    if name not in derived:
        raise DefinitionError(
            f"{place}:{path[-2]} refers to {name!r}, which the view does not have",
            did_you_mean(name, (*derived, *given), "features"),
        )
    for read in read_features(derived[name]):
        _visit(place, derived, given, (*path, read), order)
    order[name] = None


def needed_for(
    asked: Collection[str], derived: Mapping[str, Expr], order: tuple[str, ...]
) -> set[str]:
    """The asked features and everything that they are made of."""
    needed = set(asked)
    for name in reversed(order):
        if name in needed:
            needed.update(read_features(derived[name]))
    return needed


def infer_in_order(
    place: str,
    derived: Mapping[str, Expr],
    order: tuple[str, ...],
    schema: Mapping[str, DType],
) -> dict[str, DType]:
    """The types of derived features over ``schema``. Raises DefinitionError naming the feature."""
    known, found = dict(schema), {}
    for name in order:
        try:
            found[name] = infer(derived[name], known)
        except DefinitionError as error:
            raise placed(f"{place}:{name}", error) from None
        known[f"@{name}"] = found[name]
    return found


def placed(place: str, error: DefinitionError) -> DefinitionError:
    """The same error, saying where in the definitions it is."""
    return DefinitionError(f"{place}: {error.what}", error.hint)


def renamed_refs(expr: Expr, names: Mapping[str, str]) -> Expr:
    """The expression with references renamed."""
    if isinstance(expr, Ref):
        return Ref(names.get(expr.name, expr.name))
    if isinstance(expr, Call):
        args = tuple(renamed_refs(arg, names) for arg in expr.args)
        return Call(expr.op, args, expr.params)
    return expr
