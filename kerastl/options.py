"""Base classes of all options that a recipe or Python code can set.

All problems of a value are reported together. Each message names the key, the allowed values and the given value, and
suggests a correction.
"""

from __future__ import annotations

import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, ParamSpec, TypeVar, Union

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic._internal._model_construction import ModelMetaclass
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

from kerastl import registry
from kerastl.errors import Problem, Problems, did_you_mean, in_syntax, join_words, nearest, quote, suggest

Fraction = Annotated[float, Ge(0), Le(1)]
P = ParamSpec("P")
R = TypeVar("R")
Loc = tuple[str | int, ...]
Error = tuple[Loc, str]
"""The location and the message of a problem."""
Rule = Callable[[Any], Iterable[tuple[str, str]]]
NO = ("no", "off", "false")
YES = ("yes", "on", "true")
NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
STEP = re.compile(rf"({NAME})|\[([0-9]+)\]")
PATH = re.compile(rf"({NAME}(\.{NAME}|\[[0-9]{{1,6}}\])*)?")
# Kinds of plug-ins that are easily confused, and the recipe key of each.
AUGMENTING = {"operation": "augment.operations", "mixing": "augment.mixing"}
RENAMED_PLUGINS = {("validator", "proven_information"): "bounded_information"}
CUSTOM = "invalid"
MISSING = "Missing required key"
INVALID: Any = object()
"""Takes the place of a value that cannot be used, even in part."""


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


class Suggestion(str):
    """A message that suggests a value.

    Attributes:
        value: The value.
        plain: The message without the suggestion.
    """

    value: Any
    plain: str

    def __new__(cls, text: str, value: Any, plain: str = "") -> Suggestion:
        """Return the text with these attributes."""
        message = super().__new__(cls, text)
        message.value, message.plain = value, plain
        return message


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
        title = registry.TITLES[self.kind]
        hint = registry.path_hint(name) if self.kind == "backbone" else ""
        message = f"unknown {title} {quote(name)}. {hint or did_you_mean(name, registry.names(self.kind))}"
        if (self.kind, name) in RENAMED_PLUGINS:
            message = f"{quote(name)} was renamed to '{RENAMED_PLUGINS[self.kind, name]}'."
        for other, key in AUGMENTING.items():
            similar = name if registry.has(other, name) else nearest(name, registry.names(other))
            is_other = self.kind in AUGMENTING and other != self.kind
            if similar and is_other and (similar == name or not nearest(name, registry.names(self.kind))):
                message = f"{quote(similar)} is not {_with_article(title)}. It is allowed in {key}."
        raise PydanticCustomError(CUSTOM, "{message}", {"message": message})


class _Constructor(ModelMetaclass):
    """Metaclass that accepts positional arguments and raises one error that lists every problem."""

    def __call__(cls: Any, *args: Any, **values: Any) -> Any:  # noqa: N805 - the instances are classes
        names = list(vars(cls)["__pydantic_fields__"])
        if len(args) > len(names) or values.keys() & set(names[: len(args)]):
            raise TypeError(f"{cls.__name__} accepts each of these arguments once: {', '.join(names)}.")
        values = dict(zip(names, args, strict=False)) | values
        model, errors = cls.read(values)
        if errors:
            name = values.get("name")
            title = f"The {cls.__module__.rpartition('.')[2]}" if cls.__name__ == "Options" else cls.__name__
            subject = f"{title} {name!r}" if isinstance(name, str) else title
            raise Problems(subject, list_problems(errors))
        return model

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

    @classmethod
    def read(cls, given: Any, other_keys: Sequence[str] = ()) -> tuple[Any, list[Error]]:
        """Return the model of a value, and all problems of the value.

        Args:
            given: A model, a mapping or a short form, from Python or with the `Scalar`s of a recipe.
            other_keys: Keys that are allowed next to those of the model, for messages.

        Returns:
            The model. If there are problems, it has only the valid attributes, or is None if there are none.
        """
        if isinstance(given, cls):
            return given, []
        mapping = cls._long_form(given)
        if mapping is None:
            return None, [((), f"must be {cls._expected_form()}, got {describe_value(given)}.")]
        values, errors = cls._read_values(mapping, other_keys)
        valid = {key: value for key, value in values.items() if value is not INVALID}
        model = cls.model_construct(**valid)
        for key in values.keys() - valid.keys():
            vars(model).pop(key, None)  # its default would not be the value that was meant
        is_partial = bool(errors)
        for rule in cls.RULES:
            findings = iter_findings(rule(model), is_partial=is_partial)
            errors += [(split_path(path) or (), message) for path, message in findings]
        if any(isinstance(message, Suggestion) for _, message in errors) and cls._contradicts(
            mapping, errors
        ):
            errors = [(loc, getattr(message, "plain", message)) for loc, message in errors]
        order: dict[Any, int] = {key: index for index, key in enumerate(cls.model_fields)}
        errors.sort(key=lambda error: order.get(next(iter(error[0]), None), 0))
        if isinstance(given, list | tuple) and cls.SHORT_LIST:  # the short form has no key
            errors = [(loc[1:] if loc[:1] == (cls.SHORT_LIST,) else loc, message) for loc, message in errors]
        return model, errors

    @classmethod
    def _contradicts(cls, given: Mapping[str, Any], errors: Sequence[Error]) -> bool:
        """Return whether the suggested values together cause other problems, such as two fractions above 1 in total."""
        if not cls.RULES:
            return False
        for loc, message in errors:
            if isinstance(message, Suggestion):
                given = _with_value(given, loc, message.value)
        return any(error not in errors for error in cls.read(given)[1])

    @classmethod
    def _long_form(cls, given: Any) -> Mapping[str, Any] | None:
        """Convert a bare string or a bare list to a mapping, and other values than mappings to None."""
        if isinstance(given, list | tuple) and cls.SHORT_LIST:
            return {cls.SHORT_LIST: given}
        is_word = isinstance(given, str) or (isinstance(given, Scalar) and given.value is not None)
        if is_word and cls.SHORT_WORD:
            return {cls.SHORT_WORD: given}
        return given if isinstance(given, Mapping) else None

    @classmethod
    def _expected_form(cls) -> str:
        name = in_syntax("", f"{_with_article(cls.__name__)} or ")
        return f"{name}a mapping with the keys {join_words(list(hints(cls)), 'and')}"

    @classmethod
    def _read_values(
        cls, given: Mapping[str, Any], other_keys: Sequence[str]
    ) -> tuple[dict[str, Any], list[Error]]:
        """Return the value of each known key, converted to its type, and all problems."""
        annotations = hints(cls)
        values: dict[str, Any] = {}
        errors: list[Error] = []
        for key in [key for key in given if key not in annotations]:
            unknown = f"{in_syntax('unknown key', 'unknown argument')}. {did_you_mean(key, [*annotations, *other_keys])}"
            errors.append(((key,), cls.RENAMED.get(key, unknown)))
            if near := nearest(key, annotations):
                values[near] = INVALID  # misspelled, not missing
        for key in [key for key in given if key in annotations]:
            values[key] = _read(annotations[key], given[key], (key,), errors)
        for key, field in cls.model_fields.items():
            if field.is_required() and key not in values:
                errors.append(((key,), _missing(key, annotations[key])))
        return values, errors


class Plugin(StrictModel):
    """Base class of recipe sections that name a plug-in and set its options next to the name."""

    SHORT_WORD: ClassVar[str | None] = "name"
    name: str

    @classmethod
    def _long_form(cls, given: Any) -> Mapping[str, Any] | None:
        if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
            name, options = given
            is_flat = isinstance(options, Mapping)
            given = {**options, "name": name} if is_flat else {"name": name, "options": options}
        return super()._long_form(given)

    @classmethod
    def _expected_form(cls) -> str:
        return "a name, or {name: NAME, OPTION: VALUE, ...}"

    @classmethod
    def _read_values(
        cls, given: Mapping[str, Any], other_keys: Sequence[str]
    ) -> tuple[dict[str, Any], list[Error]]:
        (kind,) = [limit.kind for limit in cls.model_fields["name"].metadata if isinstance(limit, NameOf)]
        own = hints(cls).keys() - {"options"}
        name = given.get("name")
        name = name.text if isinstance(name, Scalar) else name
        own_values = {key: item for key, item in given.items() if key in own}
        if not isinstance(name, str) or not registry.has(kind, name):
            if "name" not in given:  # a misspelled key may be the name
                own_values |= {key: item for key, item in given.items() if nearest(key, own)}
            return super()._read_values(own_values, other_keys)
        model: Any = registry.options_of(kind, name)
        if model is not None and own & hints(model).keys():
            raise TypeError(f"{kind} {name}: an option may not be called {own & hints(model).keys()}")
        values, errors = super()._read_values(own_values, other_keys)
        rest = {key: item for key, item in given.items() if key not in own}
        options: Any = given.get("options")
        if options is None or not isinstance(options, Mapping | Scalar):
            rest.pop("options", None)
            if model is not None and isinstance(options, model):
                return values | {"options": options}, errors
            if options is not None:
                errors.append(((), f"the options of {name} must be a mapping, got {options!r}."))
        read = _read_model(model or StrictModel, rest, (), errors, sorted(own))
        return (values | {"options": read} if model else values), errors


def list_problems(errors: Iterable[Error], prefix: str = "") -> list[Problem]:
    """Return problems for `kerastl.errors.Problems`. Locations are appended to a path."""
    return [Problem(join_path(prefix, section_of(loc, message)), message) for loc, message in errors]


def check_arguments(
    subject: str,
    model: type[StrictModel],
    passed: Mapping[str, Any],
    problems: Iterable[Problem] = (),
    footer: str = "",
) -> Any:
    """Return the arguments of a public function as a model.

    Args:
        subject: Name of the function, for the message.
        model: The model with the types and ranges of the arguments.
        passed: The arguments, for example `locals()`. Those that are not fields of the model are ignored.
        problems: Problems of other arguments, which are reported first.
        footer: What to type next.

    Raises:
        Problems: All problems together.
    """
    arguments, errors = model.read({name: passed[name] for name in model.model_fields if name in passed})
    if all_problems := [*problems, *list_problems(errors)]:
        raise Problems(subject, all_problems, footer)
    return arguments


def option_problems(function: Callable[..., Any], options: Mapping[str, Any], *taken: str) -> list[Problem]:
    """Return a problem for each option that is not an argument of a function, is in `taken`, or has a wrong type."""
    known = [name for name in inspect.signature(function).parameters if name not in taken]
    return [
        Problem(key, f"unknown argument. {did_you_mean(key, known)}") for key in options if key not in known
    ] + list_problems(_read_arguments(function, dict(options)))


LISTS = (tuple, Sequence)
CONVERTED = (bool, int, float, str, Path, tuple, Sequence, dict)
"""Types to which values are converted. For any other type, the value must be an instance."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public function so that it raises `Problems` for arguments that do not fit its annotations.

    Numbers of NumPy, lists for tuples and strings for paths are converted. Items of mappings are not checked.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        bound = signature.bind(*args, **options)
        if errors := _read_arguments(function, bound.arguments):
            raise Problems(function.__qualname__.removesuffix(".__init__"), list_problems(errors))
        return function(*bound.args, **bound.kwargs)

    return call


def _read_arguments(function: Callable[..., Any], arguments: dict[str, Any]) -> list[Error]:
    """Convert arguments to the types of a function, in place. Return their problems."""
    errors: list[Error] = []
    for name, annotation in _checkable(function).items():
        if name in arguments:
            arguments[name] = _read(annotation, arguments[name], (name,), errors)
    return errors


@cache
def _checkable(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations that `_read` understands, by parameter."""
    annotations = typing.get_type_hints(function, include_extras=True) | {"return": Any}
    return {name: kind for name, kind in annotations.items() if all(map(_is_checkable, members(kind)))}


def _is_checkable(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin in LISTS:
        return all(map(_is_checkable, {*typing.get_args(kind)} - {Ellipsis}))
    return origin in (Literal, Callable, Mapping) or (isinstance(unwrap(kind)[0], type) and kind is not Any)


def _with_value(given: Any, loc: Loc, value: Any) -> Any:
    """Return a copy of nested mappings and lists with the value at a location, if there is such a location."""
    if not loc:
        return value
    items = (
        dict(given)
        if isinstance(given, Mapping)
        else dict(enumerate(given if isinstance(given, list | tuple) else ()))
    )
    if loc[0] in items:
        items[loc[0]] = _with_value(items[loc[0]], loc[1:], value)
    return items if isinstance(given, Mapping) else list(items.values())


def section_of(loc: Loc, message: str) -> Loc:
    """Return the location of an error. A missing key is reported at its section."""
    return loc[:-1] if message.startswith(MISSING) else loc


def iter_findings(
    findings: Iterable[tuple[str, str]], *, is_partial: bool = True
) -> Iterator[tuple[str, str]]:
    """Yield the findings of a rule. In a partial model, the rule stops at the first missing attribute."""
    try:
        yield from findings
    except AttributeError:
        if not is_partial:
            raise


def _read(annotation: Any, given: Any, loc: Loc, errors: list[Error]) -> Any:
    """Return a value as its type, or `INVALID`, and add its problems."""
    if type(given).__module__ == "numpy" and hasattr(given, "tolist"):
        given = given.tolist()
    parts = members(annotation)
    kinds = [typing.get_origin(part) or part for part in parts]
    classes = tuple(kind for kind in kinds if isinstance(kind, type) and kind not in CONVERTED)
    if isinstance(given, classes):
        return given
    if given is None and in_syntax("", "none") in choices(annotation) and type(None) not in parts:
        return "none"
    lists = [part for part in parts if typing.get_origin(part) in LISTS]
    is_wrong_list = lists == parts and not isinstance(given, list | tuple)
    if is_wrong_list or (len(classes) == len(parts) and not any(map(is_model, classes))):
        errors.append((loc, _type_message(annotation, given)))
        return INVALID
    models = [part for part in parts if is_model(part)]
    if len(models) == 1 and set(parts) <= {*models, type(None)}:
        is_null = type(None) in parts and means_null(given)
        return None if is_null else _read_model(models[0], given, loc, errors)
    value = given
    if isinstance(given, Scalar | str):
        scalar = given if isinstance(given, Scalar) else Scalar(given, given, plain=False)
        value = _convert_scalar(annotation, scalar)
    elif isinstance(given, Mapping):
        if models:
            return _read_mapping(annotation, models, given, loc, errors)
        value = {key: _value_of(item) for key, item in given.items()}
    elif isinstance(given, list | tuple) and lists:
        return _read_items(annotation, lists[0], given, loc, errors)
    return _validate(annotation, value, given, loc, errors)


def _validate(annotation: Any, value: Any, given: Any, loc: Loc, errors: list[Error]) -> Any:
    """Return a converted value after pydantic has checked it, or `INVALID`, and add its problem."""
    # Pydantic accepts true and 1.0 for the choice 1.
    is_number = isinstance(value, int | float)
    if is_number and any(value == word and type(value) is not type(word) for word in choices(annotation)):
        message = _type_message(annotation, given)
    else:
        try:
            return _adapter(annotation).validate_python(value)
        except ValidationError as error:
            detail = error.errors()[0]
            message = detail["msg"] if detail["type"] == CUSTOM else _type_message(annotation, given)
    errors.append((loc, message))
    return INVALID


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=StrictModel.model_config)


def _read_items(annotation: Any, kind: Any, given: Sequence[Any], loc: Loc, errors: list[Error]) -> Any:
    """Return a sequence as a tuple of its item types, or `INVALID`, and add its problems."""
    inner = typing.get_args(kind) + (Ellipsis,) * (typing.get_origin(kind) is Sequence)
    least = next((limit.min_length for limit in unwrap(annotation)[1] if isinstance(limit, MinLen)), 0)
    if Ellipsis not in inner and len(inner) != len(given):
        errors.append((loc, f"must be {allowed(annotation)}, got a list of {len(given)}."))
        return INVALID
    if len(given) < least:
        errors.append((loc, f"must contain at least {least} {'item' if least == 1 else 'items'}."))
        return INVALID
    types_of_items = [inner[0]] * len(given) if Ellipsis in inner else inner
    items = [
        _read(item_type, item, (*loc, index), errors)
        for index, (item_type, item) in enumerate(zip(types_of_items, given, strict=True))
    ]
    if is_model(inner[0]):
        return tuple(None if item is INVALID else item for item in items)
    return INVALID if any(item is INVALID for item in items) else tuple(items)


def _read_mapping(
    annotation: Any, models: Sequence[Any], given: Mapping[str, Any], loc: Loc, errors: list[Error]
) -> Any:
    """Convert a mapping to the model with these keys."""
    known = [name for model in models for name in hints(model)]
    near = {nearest(key, known) for key in given}
    chosen = [model for model in models if len(models) == 1 or set(given) & set(hints(model))]
    if not chosen:
        chosen = [model for model in models if near & set(hints(model))][:1]
    num_errors = len(errors)
    if len(chosen) == 1:
        read = _read_model(chosen[0], given, loc, errors)
        # Rules must not use the valid part of one alternative as the whole value.
        is_choice = len(models) > 1 or choices(annotation)
        return INVALID if is_choice and len(errors) > num_errors else read
    if chosen:
        message = f"accepts only one of {join_words([quote(key, '') for key in given])}."
    else:
        keys = ", ".join(quote(key) for key in list(given)[:5]) or "none"
        message = f"must have one of the keys {join_words(known)}, got {keys}."
    errors.append((loc, message))
    return INVALID


def _read_model(model: Any, given: Any, loc: Loc, errors: list[Error], other_keys: Sequence[str] = ()) -> Any:
    """Return a value as a model, or `INVALID`, and add its problems."""
    read, below = model.read(given, other_keys)
    errors += [((*loc, *inner), message) for inner, message in below]
    return INVALID if read is None else read


def _convert_scalar(annotation: Any, scalar: Scalar) -> Any:
    """Convert a scalar to the types of its key, or return its value for pydantic to reject."""
    parts, words = members(annotation), choices(annotation)
    if scalar.text in words:
        return scalar.text
    if type(None) in parts and means_null(scalar):
        return None
    if bool in parts and scalar.plain and scalar.text.lower() in NO + YES:
        return scalar.text.lower() in YES
    if scalar.value is None:
        return None
    if str in parts:
        return scalar.text
    if Path in parts and (not words or any(mark in scalar.text for mark in "/\\.~")):
        return _path(scalar.text)
    return scalar.value


def _path(text: str) -> Path | str:
    """Return an absolute path. `~` is the home folder; relative paths are relative to the working directory."""
    if not text.strip() or "\0" in text:
        return text
    return Path(os.path.expanduser(text)).absolute()  # noqa: PTH111 - Path raises for ~user without an account


def means_null(given: Any) -> bool:
    """Return whether a value means null: null, ~, an empty value, or the bare word none."""
    if isinstance(given, Scalar):
        return given.value is None or (given.plain and given.text.lower() == "none")
    return given is None


def _missing(key: str, annotation: Any) -> str:
    """Return the message for a missing key, with an example."""
    kind, limits = unwrap(annotation)
    words = allowed(annotation)
    example = "DIR" if kind is Path else words if len(choices(annotation)) == 1 else ""
    for limit in limits:
        if isinstance(limit, NameOf):
            words = join_words(registry.names(limit.kind))
        elif isinstance(limit, FieldInfo) and limit.examples:
            example = limit.examples[0]
    if typing.get_origin(kind) is tuple and is_model(typing.get_args(kind)[0]):
        fields = typing.get_args(kind)[0].model_fields.items()
        names = [name for name, field in fields if field.is_required()]
        example = f"[{{{', '.join(f'{name}: ...' for name in names)}}}]"
    if not example:
        return f"{MISSING} '{key}', which must be {words}."
    return f"{MISSING} '{key}'. Add: {key}: {example}"


def _type_message(annotation: Any, given: Any) -> str:
    """Return the message for a value of the wrong type or out of bounds."""
    parts = members(annotation)
    is_list = all(typing.get_origin(part) in LISTS for part in parts if part is not type(None))
    if is_list and not isinstance(given, list | tuple):
        value = _value_of(given)
        problem = next(iter(_problems_of(annotation, [given])), "")
        hint = (
            f" {problem[:1].upper()}{problem[1:]}"
            if problem
            else f" Use [{in_syntax(quote(str(value), ''), repr(value))}]."
        )
        return f"must be a list, got {describe_value(given)}.{hint if isinstance(value, str) else ''}"
    if str in parts and isinstance(_value_of(given), str) and _value_of(given) == "":
        return "must not be empty."
    plain, hint = f"must be {allowed(annotation)}, got {describe_value(given)}.", _hint(annotation, given)
    message = f"{plain} {hint}".rstrip()
    return Suggestion(message, hint.value, plain) if isinstance(hint, Suggestion) else message


def _value_of(given: Any) -> Any:
    return given.value if isinstance(given, Scalar) else given


def _hint(annotation: Any, given: Any) -> str:
    """Return a suggested correction, or an empty string."""
    parts, words = members(annotation), list(map(str, choices(annotation)))
    value = _value_of(given)
    if value is None:
        return "Use none." if "none" in words else ""
    if isinstance(value, str):
        if hint := suggest(value, words):
            return hint.strip()
        if Path in parts and words:
            return f"For a path, use ./{quote(value, '')}"
        return _number_hint(annotation, value, is_plain=isinstance(given, Scalar) and given.plain)
    if isinstance(value, float) and value.is_integer() and not _problems_of(annotation, int(value)):
        return Suggestion(f"Use {int(value)}.", int(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _percent(annotation, value)
    if isinstance(value, list | dict) and str in parts:
        return "Put it in quotes if it is a string."
    return ""


def _problems_of(annotation: Any, value: Any) -> list[str]:
    """Return the problems of a suggested value, so that no invalid value is suggested."""
    errors: list[Error] = []
    _read(annotation, value, (), errors)
    return [message for _, message in errors]


def _percent(annotation: Any, number: float) -> str:
    for model in filter(is_model, members(annotation)):
        key, *others = hints(model)
        if not others and not _problems_of(model, {key: number}):
            return Suggestion(f"Use {{{key}: {number:g}}}.", {key: number})
    is_percentage = is_fraction(*unwrap(annotation)) and 1 < number <= 100
    if is_percentage and not _problems_of(annotation, number / 100):
        return Suggestion(f"For {number:g}%, use {number / 100:g}.", number / 100)
    return ""


def _number_hint(annotation: Any, text: str, *, is_plain: bool) -> str:
    if not {int, float} & set(members(annotation)):
        return ""
    with suppress(ValueError):
        if text.strip().endswith("%"):
            return _percent(annotation, float(text.strip()[:-1]))
        number = text.strip().replace("_", "")
        value = int(number) if number.lstrip("+-").isdecimal() else float(number)
        number = number if number.isascii() else str(value)
        if not _problems_of(annotation, value):
            return Suggestion(f"Use {number}." if is_plain else f"Remove the quotes: {number}", value)
    return ""


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the bare type and the constraints of `Annotated[type, ...]`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return annotation.__origin__, annotation.__metadata__
    return annotation, ()


def alternatives(annotation: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """Return the bare type and the constraints of each member of a union, or of the annotation alone."""
    bare = unwrap(annotation)[0]
    is_union = typing.get_origin(bare) in (Union, types.UnionType)
    return [unwrap(member) for member in (typing.get_args(bare) if is_union else (annotation,))]


def members(annotation: Any) -> list[Any]:
    """Return the bare types of the members of a union, or of the annotation alone."""
    return [kind for kind, _ in alternatives(annotation)]


def choices(annotation: Any) -> list[Any]:
    """Return the values of the `Literal`s in an annotation."""
    literals = [kind for kind in members(annotation) if typing.get_origin(kind) is Literal]
    return [choice for literal in literals for choice in typing.get_args(literal)]


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
    # The text of a table or an array has several lines, perhaps of patients.
    text = repr(given)
    in_python = _with_article(type(given).__name__) if "\n" in text else quote(text, marks="")
    if isinstance(given, Mapping):
        return in_syntax("a mapping", in_python)
    return in_syntax("a list", in_python) if isinstance(given, list | tuple) else in_python


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


ONE_SIDED = {Gt: "greater than", Ge: "of at least", Lt: "less than", Le: "of at most"}


def bounds(limits: tuple[Any, ...]) -> dict[type, Any]:
    """Return the bounds of a number by their kind: `Gt`, `Ge`, `Lt` or `Le`."""
    kinds = [(type(limit), limit) for limit in limits if type(limit) in ONE_SIDED]
    return {kind: getattr(limit, kind.__name__.lower()) for kind, limit in kinds}


def is_fraction(kind: Any, limits: tuple[Any, ...]) -> bool:
    """Return whether a number must be between 0 and 1."""
    return kind is float and sorted(bounds(limits).values()) == [0, 1]


def _number(kind: type[Any], limits: tuple[Any, ...]) -> str:
    noun = "an integer" if kind is int else "a number"
    sides = bounds(limits)
    if len(sides) < 2:
        return " ".join([noun, *(f"{ONE_SIDED[side]} {bound}" for side, bound in sides.items())])
    low, high = sorted(sides.values())
    if Gt in sides:
        return f"{noun} greater than {low} and {'less than' if Lt in sides else 'at most'} {high}"
    noun = "a fraction" if is_fraction(kind, limits) else noun
    return f"{noun} from {low} to {'below ' if Lt in sides else ''}{high}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiouAEIOU' else 'a'} {noun}"


def _text(limits: tuple[Any, ...], words: str = "a string") -> str:
    for limit in limits:
        if isinstance(limit, FieldInfo) and limit.description:
            return limit.description
        if isinstance(limit, NameOf):
            return f"the name of {_with_article(registry.TITLES[limit.kind])}"
    return words


def _structure(kind: Any) -> str:
    if is_model(kind):
        names = [f"{_word(name)}: {allowed(hint)}" for name, hint in hints(kind).items() if name != "options"]
        return f"{{{', '.join(names)}}}" if len(names) <= 2 else "a mapping"
    if typing.get_origin(kind) in (Callable, Mapping):
        return "a function" if typing.get_origin(kind) is Callable else "a mapping"
    if isinstance(kind, type):
        package = kind.__module__.partition(".")[0]
        return _with_article(f"{package}.{kind.__name__}".removeprefix("kerastl."))
    inner = [item for item in typing.get_args(kind) if item is not Ellipsis]
    if typing.get_origin(kind) is dict:
        return f"a mapping from names to {allowed(inner[1])}"
    if Ellipsis in typing.get_args(kind):
        return f"a list, each {allowed(inner[0])}"
    return f"a list of {len(inner)}: {', '.join(map(allowed, inner))}"


def _word(word: Any) -> str:
    return in_syntax(str(word), repr(word))


def allowed(annotation: Any) -> str:
    """Return the description of the allowed values of a type, e.g. `an integer from 1 to 32`."""
    words: list[str] = []
    for kind, limits in alternatives(annotation):
        words += [_word(choice) for choice in choices(kind)] or [_describe_type(kind, limits)]
    return join_words(list(dict.fromkeys(words)))


def _describe_type(kind: Any, limits: tuple[Any, ...]) -> str:
    if kind is int or kind is float:
        return _number(kind, limits)
    if kind is str:
        return _text(limits)
    boolean, null = in_syntax("true or false", "True or False"), in_syntax("null", "None")
    simple = {
        bool: boolean,
        Path: "a path",
        type(None): null,
        bytes: "the bytes of a file (PATH.read_bytes())",
    }
    if kind in simple:
        return simple[kind]
    words = _text(limits, _structure(kind))
    return f"{words}, at least one" if any(isinstance(limit, MinLen) for limit in limits) else words
