"""Which values an option takes, declared once as a type and checked before anything is read or written; reading them.

A group of options is a frozen dataclass under :func:`validated`; the type of a field holds its range, so the check, the
sentence of a refusal, the JSON schema and the page of options in the documentation all come from one declaration.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from monai_transfer.errors import UserError

T = TypeVar("T")
Number = TypeVar("Number", int, float)

Steps = Annotated[int, Field(title="--steps", ge=1, le=100_000_000)]
Minutes = Annotated[float, Field(title="--minutes", gt=0, le=100_000)]
# a learning rate above 1 only ever diverges on purpose, as the tests of the roll-back do
LearningRate = Annotated[float, Field(title="--learning-rate", gt=0, le=10_000)]
BatchSize = Annotated[int, Field(title="--batch-size", ge=1, le=1024)]
# NumPy's generators and MONAI's set_determinism take 32 bits; half of it leaves room for the seeds that follow one
Seed = Annotated[int, Field(title="--seed", ge=0, le=2**31 - 1)]
Spacing = Annotated[float, Field(title="--spacing", ge=0.01, le=50)]
BodyScale = Annotated[float, Field(title="--body-scale", ge=0.2, le=5)]
Hounsfield = Annotated[float, Field(title="--window", ge=-100_000, le=100_000)]
WindowVoxels = Annotated[int, Field(title="--roi", ge=1, le=2048)]
Classes = Annotated[int, Field(title="--classes", ge=2, le=4096)]
Threads = Annotated[int, Field(title="--threads", ge=1, le=4096)]
LargestLoss = Annotated[float, Field(title="--largest-loss", ge=0, le=1)]
Jobs = Annotated[int, Field(title="--jobs", ge=1, le=1024)]
Tasks = Annotated[int, Field(title="--tasks", ge=100, le=1_000_000)]
ScanSeconds = Annotated[float, Field(title="--scan-seconds", gt=0, le=1e6)]
WorkerPrice = Annotated[float, Field(title="--price", ge=0, le=1e6)]
Percentage = Annotated[float, Field(title="--fractions", gt=0, le=100)]
Repeats = Annotated[int, Field(title="--seeds", ge=1, le=100)]
JointWeight = Annotated[float, Field(title="--joint-weight", gt=0, le=1e6)]
Tolerance = Annotated[float, Field(title="--tolerance", ge=0, le=1000)]
Subjects = Annotated[int, Field(title="--subjects", ge=1, le=100_000)]
FirstSubject = Annotated[int, Field(title="--first", ge=1, le=1_000_000)]
PhantomSize = Annotated[float, Field(title="--size", ge=0.1, le=8)]
Share = Annotated[float, Field(title="--minimum", ge=0, le=1)]
GeneratorWidth = Annotated[int, Field(title="--width", ge=4, le=1024)]
Dimensions = Annotated[int, Field(title="--spatial-dims", ge=2, le=3)]
ChannelDropout = Annotated[float, Field(title="--channel-dropout", ge=0, le=1)]
Channels = Annotated[int, Field(title="--in-channels", ge=1, le=1024)]

Precision = Literal["float32", "bfloat16", "float16"]
Runtime = Literal["auto", "torch", "openvino", "onnx"]
LabelFormat = Literal["nifti", "same", "nrrd", "seg.nrrd", "mha", "mgz"]
ExportFormat = Literal["torchscript", "onnx"]
Backbone = Literal["unet", "resnet18", "pointwise"]
Blending = Literal["gaussian", "constant"]
Task = Literal["segmentation", "diagnosis"]
# those that need no images but the ones that are learnt from
TrainingAugmentation = Annotated[
    Literal["standard", "modality", "gin", "nnunet", "none"], Field(title="--augmentation")
]
SCRATCH = "scratch"
"""What ``--compare`` and the tables call fresh weights."""

Policy = Literal["train", "follow_freezing", "frozen_statistics", "frozen_affine"]

_CONFIG = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
# kinds of faults of the calling code, which are not the user's to mend
_MISUSE = (
    "missing_argument",
    "unexpected_keyword_argument",
    "unexpected_positional_argument",
    "multiple_argument_values",
)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def validated(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are checked against their types.

    Example:
        >>> @validated
        ... class Pace:
        ...     steps: Steps = 100
        >>> Pace(steps=0)
        Traceback (most recent call last):
        monai_transfer.errors.UserError: --steps 0 is not possible: give a whole number from 1 to 100000000.

    Raises:
        UserError: by the class, when a value is out of its range.
    """
    made: Any = dataclass(cls, frozen=True, config=_CONFIG)
    unguarded = made.__init__

    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807
        try:
            unguarded(self, *values, **named)
        except ValidationError as error:
            if any(fault["type"] in _MISUSE for fault in error.errors()):
                raise TypeError(str(error)) from None
            raise UserError(_refusal(error, schema_of(made))) from None

    made.__init__ = __init__
    return made  # type: ignore[no-any-return]


def checked(kind: Any, value: Any) -> Any:
    """``value`` as one of the types of this module, for an option that stands alone.

    Raises:
        UserError: it is out of range.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[kind, Field(allow_inf_nan=False)] if _is_float(kind) else kind)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise UserError(_refusal(error, {"properties": {"": adapter.json_schema()}})) from None


def given_of(options: Mapping[str, T]) -> dict[str, T]:
    """The options that are set, which those that are ``None`` are not.

    Example:
        >>> given_of({"steps": 40, "seed": None})
        {'steps': 40}
    """
    return {name: value for name, value in options.items() if value is not None}


def schema_of(cls: Any) -> dict[str, Any]:
    """The JSON schema of a class under :func:`validated`, or of one of the types of this module."""
    return TypeAdapter(cls).json_schema()


def option_of(name: str, schema: Mapping[str, Any]) -> str:
    """The command-line option of a field, ``--name`` unless its type's title says otherwise."""
    title = str(_leaf(schema).get("title", ""))
    return title if title.startswith("--") else "--" + name.replace("_", "-")


def range_of(schema: Mapping[str, Any]) -> str:
    """The values that a field takes, in words: ``a whole number from 1 to 1024``."""
    leaf = _leaf(schema)
    if "enum" in leaf or "const" in leaf:
        return "one of " + ", ".join(map(str, leaf.get("enum", [leaf.get("const")])))
    if leaf.get("type") not in ("integer", "number"):
        return {"boolean": "on or off", "string": "text"}.get(str(leaf.get("type")), "a value of another kind")
    words = "a whole number" if leaf["type"] == "integer" else "a number"
    if "exclusiveMinimum" in leaf:
        words += f" above {leaf['exclusiveMinimum']:g}"
    elif "minimum" in leaf:
        words += f" from {leaf['minimum']:.12g}"
    if "exclusiveMaximum" in leaf:
        words += f" and below {leaf['exclusiveMaximum']:g}"
    elif "maximum" in leaf:
        words += f" {'to' if 'minimum' in leaf else 'and up to'} {leaf['maximum']:.12g}"
    return words


def _refusal(error: ValidationError, schema: Mapping[str, Any]) -> str:
    """The first fault in one sentence: the option, what was given, and what can be."""
    fault = error.errors(include_url=False, include_context=False)[0]
    fields = schema["properties"]
    name = fault["loc"][0] if fault["loc"] else ""
    if isinstance(name, int) and "" not in fields:  # an argument by its place
        name = list(fields)[name]
    part = fields.get(name) or fields.get("", {})
    if fault["type"] in ("too_long", "too_short", "missing"):
        count = next((branch["minItems"] for branch in _branches(part) if "minItems" in branch), "other")
        return f"{option_of(str(name), part)} is not possible: give {count} values, each {range_of(part)}."
    return f"{option_of(str(name), part)} {fault['input']} is not possible: give {range_of(part)}."


def _branches(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A schema's alternatives that are not null."""
    return [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"] or [schema]


def _leaf(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a single value: of an optional one the value, of a tuple its items."""
    first = _branches(schema)[0]
    if first is not schema:
        return _leaf(first)
    inner = schema.get("prefixItems", [schema["items"]] if isinstance(schema.get("items"), dict) else [])
    return _leaf(inner[0]) if inner else schema


def _is_float(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is float


def split_list(text: str | None) -> list[str]:
    """``"a, b"`` -> ``["a", "b"]``."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def read_numbers(text: str, kind: Callable[[str], Number]) -> list[Number]:
    """``"1, 2"`` -> ``[1, 2]``; empty where a part is not such a number."""
    try:
        return [kind(part) for part in split_list(text)]
    except ValueError:
        return []


def refuse_given(options: Mapping[str, object], sentence: str) -> None:
    """Refuse options that would do nothing.

    Args:
        options: name -> value; one without a value was not given.
        sentence: says why, with ``{}`` for the first option that was.

    Raises:
        UserError: one was given.
    """
    given = next((name for name, value in options.items() if value), None)
    if given is not None:
        raise UserError(sentence.format(f"--{given.replace('_', '-')}"))


def require_options_of(
    task: str, *, segmentation: Mapping[str, object], diagnosis: Mapping[str, object] | None = None
) -> None:
    """See that no option of the other task is given: it would do nothing.

    Raises:
        UserError: one is.
    """
    other, options = ("segmentation", segmentation) if task == "diagnosis" else ("diagnosis", diagnosis or {})
    refuse_given(options, f"{{}} is for {other}: omit it with --task {task}.")


def split_numbers(text: str | None, option: str) -> tuple[float, float, float] | None:
    """``"1.5"`` -> three times 1.5; ``"1,1,2"`` -> the three numbers.

    Raises:
        UserError: when the text is neither.
    """
    if text is None:
        return None
    numbers = read_numbers(text, float)
    if len(numbers) not in (1, 3):
        raise UserError(f"{option} {text} is not possible: give one number of mm or three, such as 1.5 or 1,1,2.")
    first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    return first, second, third


def require_order(window: Sequence[float]) -> None:
    """Refuse a window of intensities that is upside down."""
    if window[0] >= window[1]:
        raise UserError(f"--window {window} is not possible: the first HU value has to be the lower one.")
