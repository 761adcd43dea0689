"""Base classes of all options that a recipe or Python code can set.

All problems of a value are reported together. Each message names the key, the allowed values and the given value, and
suggests a correction.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic._internal._model_construction import ModelMetaclass
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from kerastl import registry
from kerastl.errors import Problem, Problems, did_you_mean, join_words, nearest, quote

Fraction = Annotated[float, Ge(0), Le(1)]
Loc = tuple[str | int, ...]
Rule = Callable[[Any], Iterable[tuple[str, str]]]
NO = ("no", "off", "false")
YES = ("yes", "on", "true")
NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
STEP = re.compile(rf"({NAME})|\[([0-9]+)\]")
PATH = re.compile(rf"({NAME}(\.{NAME}|\[[0-9]{{1,6}}\])*)?")
# Kinds of plug-ins that are easily confused, and the recipe key of each.
AUGMENTING = {"operation": "augment.operations", "mixing": "augment.mixing"}
RENAMED_PLUGINS = {("validator", "proven_information"): "bounded_information"}


@dataclass(frozen=True)
class Scalar:
    """A scalar of a YAML document.

    Args:
        value: Value according to YAML 1.2.
        text: Text in the document.
        plain: Whether the text is unquoted.
    """

    value: bool | int | float | str | None
    text: str
    plain: bool


@dataclass(frozen=True)
class NameOf:
    """Annotation of a string that must be the name of a plug-in of a kind."""

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Check the name after pydantic has checked the type."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if registry.has(self.kind, name):
            return name
        message = f"unknown {self.kind} {quote(name)}. {did_you_mean(name, registry.names(self.kind))}"
        if (self.kind, name) in RENAMED_PLUGINS:
            message = f"{quote(name)} was renamed to '{RENAMED_PLUGINS[self.kind, name]}'."
        for other, key in AUGMENTING.items():
            if self.kind in AUGMENTING and other != self.kind and name in registry.names(other):
                message = f"{quote(name)} is not {_with_article(self.kind)}. It is allowed in {key}."
        raise _custom_error(message)


class _Constructor(ModelMetaclass):
    """Metaclass that accepts positional arguments and raises one error that lists every problem."""

    def __call__(cls, *args: Any, **values: Any) -> Any:  # noqa: N805 - the instances are classes
        names = list(vars(cls)["__pydantic_fields__"])
        if len(args) > len(names) or values.keys() & set(names[: len(args)]):
            raise TypeError(f"{cls.__name__} accepts each of these arguments once: {', '.join(names)}.")
        values = dict(zip(names, args, strict=False)) | values
        try:
            return super().__call__(**values)
        except ValidationError as error:
            name = values.get("name")
            subject = f"{cls.__name__} {name!r}" if isinstance(name, str) else cls.__name__
            raise Problems(subject, list_problems(error)) from None

    if not TYPE_CHECKING:  # with it, a type checker would allow any attribute

        def __getattr__(cls, name: str) -> Any:  # noqa: N805 - the instances are classes
            if name != "__signature__":
                return super().__getattr__(name)
            cls.model_rebuild()  # pydantic adds the signature when it builds a model, which is deferred
            return vars(cls)[name].__get__(None, cls)


class StrictModel(BaseModel, metaclass=_Constructor):
    """Base class of all options: frozen, without unknown keys, type conversion, NaN or infinity.

    The constructor raises `kerastl.errors.Problems` with all problems.

    Subclasses may set these class attributes:
        RULES: Functions of the model that yield `(path, message)` for inconsistent values. They also run on a partial
            model and stop at the first missing attribute.
        RENAMED: Messages for renamed keys.
        SHORT_WORD, SHORT_LIST: Key that a bare string or a bare list is short for.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    RULES: ClassVar[tuple[Rule, ...]] = ()
    RENAMED: ClassVar[Mapping[str, str]] = {}
    SHORT_WORD: ClassVar[str | None] = None
    SHORT_LIST: ClassVar[str | None] = None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the fields that differ from their default."""
        for name, value in super().__repr_args__():
            field = type(self).model_fields[str(name)]
            if value != field.get_default(call_default_factory=True):
                yield name, value

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_problems(cls, given: Any, handler: Callable[[Any], Any]) -> Any:
        if isinstance(given, cls):
            return handler(given)
        errors: list[tuple[Loc, str]] = []
        is_list = isinstance(given, list | tuple) and cls.SHORT_LIST
        given = cls._long_form(given)
        values = cls._convert(given, errors)
        valid = {key: item for key, item in values.items() if not isinstance(item, _Invalid)}
        model = None
        try:
            model = handler(valid)
        except ValidationError as error:
            for loc, message in cls._pydantic_errors(error, given):
                if not isinstance(values.get(str(loc[0])), _Invalid):
                    errors.append((loc, message))
            values |= {str(loc[0]): _Invalid() for loc, _ in errors if loc and loc[0] in valid}
            missing = [str(detail["loc"][0]) for detail in error.errors() if detail["type"] == "missing"]
            values |= {key: values.get(key, _Invalid()) for key in missing}
        if errors or model is None:
            model = cls._partial_model(values)
        errors += _check_rules(cls.RULES, model, is_partial=bool(errors))
        order: list[Any] = list(cls.model_fields)
        errors.sort(key=lambda error: order.index(error[0][0]) if error[0] and error[0][0] in order else 0)
        if is_list:  # the short form has no key
            errors = [(loc[1:] if loc[:1] == (cls.SHORT_LIST,) else loc, message) for loc, message in errors]
        if errors:
            raise _validation_error(cls.__name__, errors, model)
        return model

    @classmethod
    def _partial_model(cls, values: Mapping[str, Any]) -> Self:
        """Return a model without the invalid attributes."""
        known = {key: item.partial if isinstance(item, _Invalid) else item for key, item in values.items()}
        model = cls.model_construct(**known)
        for key, item in values.items():
            if isinstance(item, _Invalid) and item.partial is None:
                model.__dict__.pop(key, None)
        return model

    @classmethod
    def _long_form(cls, given: Any) -> Mapping[str, Any]:
        """Convert a bare string or a bare list to a mapping."""
        if isinstance(given, list | tuple) and cls.SHORT_LIST:
            return {cls.SHORT_LIST: given}
        is_word = isinstance(given, str) or (isinstance(given, Scalar) and given.value is not None)
        if is_word and cls.SHORT_WORD:
            return {cls.SHORT_WORD: given}
        if isinstance(given, Mapping):
            return given
        message = f"must be {cls._expected_form()}, got {describe_value(given)}."
        raise _validation_error(cls.__name__, [((), message)], None)

    @classmethod
    def _expected_form(cls) -> str:
        return f"a mapping with the keys {join_words(list(hints(cls)), 'and')}"

    @classmethod
    def _convert(cls, given: Mapping[str, Any], errors: list[tuple[Loc, str]]) -> dict[str, Any]:
        """Convert the value of each known key to its type and collect errors."""
        annotations = hints(cls)
        known = cls._known_items(given, annotations, annotations, errors)
        return {key: _read(annotations[key], item, (key,), errors) for key, item in known.items()}

    @classmethod
    def _known_items(
        cls,
        given: Mapping[str, Any],
        keys: Iterable[str],
        words: Iterable[str],
        errors: list[tuple[Loc, str]],
    ) -> dict[str, Any]:
        """Return the items with known keys, and report the others with the known words."""
        known = {key: item for key, item in given.items() if key in keys}
        for key in [key for key in given if key not in known]:
            errors.append(((key,), cls._unknown_key_message(key, list(words))))
            near = nearest(key, keys)
            if near:
                known.setdefault(near, _Invalid())  # misspelled, not missing
        return known

    @classmethod
    def _unknown_key_message(cls, key: str, known: Sequence[str]) -> str:
        if key in cls.RENAMED:
            return cls.RENAMED[key]
        return f"unknown key. {did_you_mean(key, known)}"

    @classmethod
    def _pydantic_errors(cls, error: ValidationError, given: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        """Yield `(location, message)` for each value that pydantic rejected."""
        done: set[Loc] = set()
        for detail in error.errors():
            key = str(detail["loc"][0])
            annotation: Any = hints(cls)[key]
            loc: Loc = (key,)
            raw: Any = given.get(key)
            inner = unwrap(annotation)[0]
            if typing.get_origin(inner) is tuple and len(detail["loc"]) > 1:
                index = int(detail["loc"][1])
                loc, raw = (key, index), raw[index]
                arguments = typing.get_args(inner)
                annotation = arguments[0] if Ellipsis in arguments else arguments[index]
            if loc in done:
                continue  # from another member of the same union
            done.add(loc)
            if detail["type"] == "missing":
                yield loc, _missing(key, annotation)
            elif detail["type"] == CUSTOM:
                yield loc, detail["msg"]
            else:
                yield loc, _type_message(annotation, raw)


class Plugin(StrictModel):
    """Base class of recipe sections that name a plug-in and set its options next to the name."""

    KIND: ClassVar[str]
    SHORT_WORD: ClassVar[str | None] = "name"
    name: str

    @classmethod
    def _long_form(cls, given: Any) -> Mapping[str, Any]:
        if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
            name, options = given
            is_flat = isinstance(options, Mapping)
            given = {**options, "name": name} if is_flat else {"name": name, "options": options}
        return super()._long_form(given)

    @classmethod
    def _expected_form(cls) -> str:
        return "a name, or {name: NAME, OPTION: VALUE, ...}"

    @classmethod
    def _convert(cls, given: Mapping[str, Any], errors: list[tuple[Loc, str]]) -> dict[str, Any]:
        own = hints(cls).keys() - {"options"}
        name = given.get("name")
        name = name.text if isinstance(name, Scalar) else name
        own_values = {key: item for key, item in given.items() if key in own}
        if not isinstance(name, str) or not registry.has(cls.KIND, name):
            if "name" not in given:  # a misspelled key may be the name
                own_values |= {key: item for key, item in given.items() if nearest(key, own)}
            return super()._convert(own_values, errors)
        options: Any = given.get("options")
        model: Any = registry.options_of(cls.KIND, name)
        known = list(hints(model)) if model else []
        if own & set(known):
            raise TypeError(f"{cls.KIND} {name}: an option may not be called {own & set(known)}")
        values = super()._convert(own_values, errors)
        rest = {key: item for key, item in given.items() if key not in own}
        if options is None or not isinstance(options, Mapping | Scalar):
            rest.pop("options", None)
            if model is not None and isinstance(options, model):
                return values | {"options": options}
            if options is not None:
                errors.append(((), f"the options of {name} must be a mapping, got {options!r}."))
        rest = (model or cls)._known_items(rest, known, [*known, *sorted(own)], errors)
        if model is not None:
            values["options"] = _read_model(model, rest, (), errors)
        return values


@dataclass
class _Invalid:
    """An invalid value, with its valid part in `partial`."""

    partial: Any = None


CUSTOM = "invalid"
MISSING = "Missing required key"


def _custom_error(message: str, model: Any = None) -> PydanticCustomError:
    return PydanticCustomError(CUSTOM, "{message}", {"message": message, "model": model})


def _validation_error(title: str, errors: Sequence[tuple[Loc, str]], model: Any) -> ValidationError:
    """Return one error for all problems, with the valid part of the model."""
    details: list[InitErrorDetails] = [
        {"type": _custom_error(message, model), "loc": loc, "input": None} for loc, message in errors
    ]
    return ValidationError.from_exception_data(title, details, hide_input=True)


def located_errors(error: ValidationError) -> list[tuple[Loc, str]]:
    """Return `(location, message)` of each problem of a StrictModel."""
    return [(detail["loc"], detail["msg"]) for detail in error.errors(include_url=False)]


def partial_model(error: ValidationError) -> Any:
    """Return the valid part of a model, without the invalid attributes."""
    return error.errors(include_url=False)[0].get("ctx", {}).get("model")


def section_of(loc: Loc, message: str) -> Loc:
    """Return the location of an error. A missing key is reported at its section."""
    return loc[:-1] if message.startswith(MISSING) else loc


def list_problems(error: ValidationError, prefix: str = "") -> list[Problem]:
    """Return the problems of a StrictModel for `kerastl.errors.Problems`."""
    return [
        Problem(join_path(prefix, section_of(loc, message)), message)
        for loc, message in located_errors(error)
    ]


def read_list(model: type[StrictModel], given: Any, where: str) -> tuple[list[Any], list[Problem]]:
    """Convert each item of a list to a model, and return the valid items and all problems.

    Args:
        model: Model class of the items.
        given: List from Python code.
        where: Name of the list in messages.
    """
    errors: list[tuple[Loc, str]] = []
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        return [], [Problem(where, f"must be a list, got {given!r}.")]
    values = [_read_model(model, item, (index,), errors) for index, item in enumerate(given)]
    problems = [Problem(join_path(where, section_of(loc, message)), message) for loc, message in errors]
    return [value for value in values if not isinstance(value, _Invalid)], problems


def _check_rules(rules: Iterable[Rule], model: Any, *, is_partial: bool) -> Iterator[tuple[Loc, str]]:
    for rule in rules:
        try:
            yield from ((split_path(path) or (), message) for path, message in rule(model))
        except AttributeError:
            if not is_partial:
                raise


def _read(annotation: Any, given: Any, loc: Loc, errors: list[tuple[Loc, str]]) -> Any:
    """Convert a value to its type. Pydantic checks scalars afterwards."""
    if isinstance(given, _Invalid):
        return given
    kind, limits = unwrap(annotation)
    parts = members(kind)
    models = [part for part in parts if is_model(part)]
    lists = [part for part in parts if typing.get_origin(part) is tuple]
    if len(parts) == len(models) == 1:
        return _read_model(models[0], given, loc, errors)
    choices = [choice for part in parts for choice in literals(part)]
    if any(_value_of(given) == choice and type(_value_of(given)) is not type(choice) for choice in choices):
        # Pydantic accepts true and 1.0 for the choice 1.
        errors.append((loc, _type_message(annotation, given)))
        return _Invalid()
    if isinstance(given, Scalar | str):
        scalar = given if isinstance(given, Scalar) else Scalar(given, given, plain=False)
        is_null = scalar.value is None or (means_null(scalar) and type(None) in parts)
        short = [model for model in models if model.SHORT_WORD and not is_null]
        return _read_model(short[0], given, loc, errors) if short else _read_scalar(parts, scalar)
    if isinstance(given, Mapping):
        return _read_mapping(parts, given, loc, errors)
    if isinstance(given, list | tuple) and lists:
        return _read_items(lists[0], limits, given, loc, errors)
    return given


def _read_items(kind: Any, limits: Any, given: Sequence[Any], loc: Loc, errors: list[tuple[Loc, str]]) -> Any:
    inner = typing.get_args(kind)
    least = [limit.min_length for limit in limits if isinstance(limit, MinLen)]
    message = ""
    if Ellipsis not in inner and len(inner) != len(given):
        message = f"must be {allowed(kind)}, got {len(given)}."
    elif least and len(given) < least[0]:
        message = f"must contain at least {least[0]} {'item' if least[0] == 1 else 'items'}."
    if message:
        errors.append((loc, message))
        return _Invalid()
    types_of_items = [inner[0]] * len(given) if Ellipsis in inner else inner
    items = [
        _read(item_type, item, (*loc, index), errors)
        for index, (item_type, item) in enumerate(zip(types_of_items, given, strict=True))
    ]
    if any(isinstance(item, _Invalid) for item in items):
        return _Invalid(tuple(item.partial if isinstance(item, _Invalid) else item for item in items))
    return tuple(items)


def _read_mapping(
    parts: Sequence[Any], given: Mapping[str, Any], loc: Loc, errors: list[tuple[Loc, str]]
) -> Any:
    """Convert a mapping to the model with these keys, or to a dict."""
    models = [part for part in parts if is_model(part)]
    if not models:
        return {key: _value_of(item) for key, item in given.items()}
    chosen = [model for model in models if len(models) == 1 or set(given) & set(hints(model))]
    known = [name for model in models for name in hints(model)]
    if len(chosen) > 1:
        keys = join_words([quote(key, "") for key in given])
        errors.append((loc, f"accepts only one of {keys}."))
        return _Invalid()
    if not chosen:
        near = {nearest(key, known) for key in given}
        chosen = [model for model in models if near & set(hints(model))]
        if not chosen:
            keys = ", ".join(quote(key) for key in list(given)[:5]) or "none"
            errors.append((loc, f"must have one of the keys {join_words(known)}, got {keys}."))
            return _Invalid()
    read = _read_model(chosen[0], given, loc, errors)
    # Rules must not use the valid part of one alternative as the whole value.
    is_choice = len(models) > 1 or any(map(literals, parts))
    return _Invalid() if isinstance(read, _Invalid) and is_choice else read


def _read_model(model: Any, given: Any, loc: Loc, errors: list[tuple[Loc, str]]) -> Any:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        errors += [((*loc, *below), message) for below, message in located_errors(error)]
        return _Invalid(partial_model(error))


def _read_scalar(parts: Sequence[Any], scalar: Scalar) -> Any:
    """Convert a scalar to the types of its key, or return its value for pydantic to reject."""
    choices = [choice for part in parts for choice in literals(part)]
    if scalar.text in [choice for choice in choices if isinstance(choice, str)]:
        return scalar.text
    if type(None) in parts and means_null(scalar):
        return None
    if bool in parts and scalar.plain and scalar.text.lower() in NO + YES:
        return scalar.text.lower() in YES
    if scalar.value is None:
        return None
    if str in parts:
        return scalar.text
    if Path in parts and (not choices or any(mark in scalar.text for mark in "/\\.~")):
        return _path(scalar.text)
    return scalar.value


def _path(text: str) -> Path | str:
    """Return an absolute path. `~` is the home folder; relative paths are relative to the working directory."""
    if not text.strip() or "\0" in text:
        return text
    path = Path(text)
    try:
        path = path.expanduser()
    except RuntimeError:  # ~user without such an account
        path = Path(text)
    return path.absolute()


def means_null(scalar: Scalar) -> bool:
    """Return whether a scalar means null: null, ~, an empty value, or the bare word none."""
    return scalar.value is None or (scalar.plain and scalar.text.lower() == "none")


def _missing(key: str, annotation: Any) -> str:
    """Return the message for a missing key, with an example."""
    kind, limits = unwrap(annotation)
    example = "DIR" if kind is Path else allowed(annotation)
    for limit in limits:
        if isinstance(limit, NameOf):
            return f"{MISSING} '{key}'. Add: {key}: {join_words(registry.names(limit.kind))}"
        if isinstance(limit, FieldInfo) and limit.examples:
            example = limit.examples[0]
    if typing.get_origin(kind) is tuple and is_model(typing.get_args(kind)[0]):
        names = [
            name for name, field in typing.get_args(kind)[0].model_fields.items()
            if field.is_required()
        ]  # fmt: skip
        example = f"[{{{', '.join(f'{name}: ...' for name in names)}}}]"
    return f"{MISSING} '{key}'. Add: {key}: {example}"


def _type_message(annotation: Any, given: Any) -> str:
    """Return the message for a value of the wrong type or out of bounds."""
    kind = unwrap(annotation)[0]
    is_list = any(typing.get_origin(part) is tuple for part in members(kind))
    if is_list and not isinstance(given, list | tuple):
        text = given.text if isinstance(given, Scalar) and given.value is not None else given
        hint = f" Write [{quote(text, '')}]." if isinstance(text, str) else ""
        return f"must be a list, got {describe_value(given)}.{hint}"
    if str in members(kind) and _value_of(given) == "":
        return "must not be empty."
    return f"must be {allowed(annotation)}, got {describe_value(given)}. {_hint(annotation, given)}".rstrip()


def _value_of(given: Any) -> Any:
    return given.value if isinstance(given, Scalar) else given


def _hint(annotation: Any, given: Any) -> str:
    """Return a suggested correction, or an empty string."""
    parts = members(unwrap(annotation)[0])
    choices = [str(choice) for part in parts for choice in literals(part)]
    value = _value_of(given)
    if value is None:
        return "Write none." if "none" in choices else ""
    if isinstance(value, str):
        near = nearest(value, choices)
        if near:
            return f"Did you mean '{near}'?"
        if Path in parts and choices:
            return f"For a path, write ./{quote(value, '')}"
        return _number_hint(annotation, value, is_plain=isinstance(given, Scalar) and given.plain)
    if isinstance(value, float) and int in parts and value.is_integer():
        return f"Write {int(value)}."
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _percent(annotation, value)
    if isinstance(value, list | dict) and str in parts:
        return "Put it in quotes if it is a string."
    return ""


def _percent(annotation: Any, number: float) -> str:
    if is_fraction(*unwrap(annotation)) and 1 < number <= 100:
        return f"For {number:g}% write {number / 100:g}."
    return ""


def _number_hint(annotation: Any, text: str, *, is_plain: bool) -> str:
    parts = {unwrap(part)[0] for part in members(unwrap(annotation)[0])}
    if not parts & {int, float}:
        return ""
    try:
        if text.strip().endswith("%"):
            return _percent(annotation, float(text.strip()[:-1]))
        if math.isfinite(float(text)):
            number = text.strip().replace("_", "")
            return f"Write {number}." if is_plain else f"Remove the quotes: {number}"
    except ValueError:
        pass
    return ""


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the bare type and the constraints of `Annotated[type, ...]`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return annotation.__origin__, annotation.__metadata__
    return annotation, ()


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the bare types of the members of a union, or of the annotation alone."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(unwrap(part)[0] for part in typing.get_args(annotation))
    return (unwrap(annotation)[0],)


def literals(annotation: Any) -> tuple[Any, ...]:
    """Return the choices of a `Literal`, none for another type."""
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def is_model(kind: Any) -> bool:
    """Return whether a type is a StrictModel."""
    return isinstance(kind, type) and issubclass(kind, StrictModel)


@cache
def hints(model: Any) -> dict[str, Any]:
    """Return the annotation of each field of a StrictModel, constraints included."""
    annotations = typing.get_type_hints(model, include_extras=True)
    return {name: annotations[name] for name in model.model_fields}


def describe_value(given: Any) -> str:
    """Return the description of a value in a message, e.g. after `got`."""
    if isinstance(given, Scalar):
        if isinstance(given.value, str):
            return quote(given.text)
        return quote(given.text, marks="") or "nothing"
    if isinstance(given, Mapping):
        return "a mapping"
    if isinstance(given, list | tuple):
        return "a list"
    return quote(repr(given), marks="")


def split_path(path: str) -> Loc | None:
    """Return the location `("a", "b", 0)` of the path `a.b[0]`, or None if it is not a valid path."""
    if not PATH.fullmatch(path):
        return None
    return tuple(name or int(number) for name, number in STEP.findall(path))


def join_path(path: str, loc: Loc) -> str:
    """Append a location to a path: `a.b[0]`."""
    for step in loc:
        name = f".{step}" if path else str(step)
        path += f"[{step}]" if isinstance(step, int) else name
    return path


def is_fraction(kind: Any, limits: tuple[Any, ...]) -> bool:
    """Return whether a number must be between 0 and 1."""
    low, high = bounds(limits)
    return kind is float and low is not None and high is not None and (low, high) == (0, 1)


def bounds(limits: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return the lower and the upper bound, or None for each that is missing."""
    low: Any = None
    high: Any = None
    for limit in limits:
        if isinstance(limit, Ge | Gt):
            low = limit.ge if isinstance(limit, Ge) else limit.gt
        elif isinstance(limit, Le | Lt):
            high = limit.le if isinstance(limit, Le) else limit.lt
    return low, high


ONE_SIDED = {Gt: "greater than", Ge: "of at least", Lt: "less than", Le: "of at most"}


def _number(kind: type[Any], limits: tuple[Any, ...]) -> str:
    low, high = bounds(limits)
    noun = "an integer" if kind is int else "a number"
    sides = [type(limit) for limit in limits if type(limit) in ONE_SIDED]
    if low is None or high is None:
        return " ".join([noun, *(f"{ONE_SIDED[side]} {high if low is None else low}" for side in sides)])
    if Gt in sides:
        return f"{noun} greater than {low} and {'less than' if Lt in sides else 'at most'} {high}"
    noun = "a fraction" if is_fraction(kind, limits) else noun
    return f"{noun} from {low} to {'below ' if Lt in sides else ''}{high}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _text(limits: tuple[Any, ...]) -> str:
    for limit in limits:
        if isinstance(limit, FieldInfo) and limit.description:
            return limit.description
        if isinstance(limit, NameOf):
            return f"the name of {_with_article(limit.kind)}"
    return "a string"


def _structure(kind: Any) -> str:
    if is_model(kind):
        names = [f"{name}: {allowed(hint)}" for name, hint in hints(kind).items() if name != "options"]
        return f"{{{', '.join(names)}}}" if len(names) <= 2 else "a mapping"
    inner = [item for item in typing.get_args(kind) if item is not Ellipsis]
    if typing.get_origin(kind) is dict:
        return f"a mapping from names to {allowed(inner[1])}"
    if Ellipsis in typing.get_args(kind):
        return f"a list, each {allowed(inner[0])}"
    return f"a list of {len(inner)}: {', '.join(map(allowed, inner))}"


def allowed(annotation: Any) -> str:
    """Return the description of the allowed values of a type, e.g. `an integer from 1 to 32`."""
    bare = unwrap(annotation)[0]
    is_union = typing.get_origin(bare) in (Union, types.UnionType)
    words: dict[str, None] = {}
    for member in typing.get_args(bare) if is_union else (annotation,):
        kind, limits = unwrap(member)
        words |= dict.fromkeys([str(choice) for choice in literals(kind)] or [_describe_type(kind, limits)])
    return join_words(list(words))


def _describe_type(kind: Any, limits: tuple[Any, ...]) -> str:
    if kind is int or kind is float:
        return _number(kind, limits)
    if kind is str:
        return _text(limits)
    simple = {bool: "true or false", Path: "a path", type(None): "null"}
    if kind in simple:
        return simple[kind]
    words = _structure(kind)
    return f"{words}, at least one" if any(isinstance(limit, MinLen) for limit in limits) else words
