"""Assignment through OpenFeature: our hash as a provider, and any team's own client instead of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..store.events import Assignment
from .assignment import Split

if TYPE_CHECKING:
    from openfeature.client import OpenFeatureClient
    from openfeature.provider import FeatureProvider

__all__ = ["FlagAssigner", "hash_provider"]

INSTALL = "OpenFeature is not installed; pip install 'nc_refiner[experiment]'"


class FlagAssigner:
    """Asks an OpenFeature client for the arm: a string flag whose value, or variant, is an arm's name.

    Whatever goes wrong in the flag service, a request gets the control and is left out of the experiment.

    Args:
        client: any `openfeature.api.get_client(…)`. It is asked on every request, so its provider should answer
            from memory.
        flag: the flag's key.
        arms: names that count as an answer.
        control: the default value that is handed to the client.
    """

    def __init__(self, client: OpenFeatureClient, flag: str, arms: Iterable[str], control: str):
        try:
            from openfeature.evaluation_context import EvaluationContext
        except ImportError as error:
            raise ImportError(INSTALL) from error
        self._context = EvaluationContext
        self._client, self._flag, self._arms, self._control = client, flag, frozenset(arms), control

    def assign(self, unit: str) -> Assignment:
        """The arm the client names for the targeting key `unit`; never raises."""
        try:
            found = self._client.get_string_details(self._flag, self._control, self._context(unit))
        except Exception:  # a broken hook or provider of the team's own must not fail the request
            return Assignment(self._control, "default")
        if found.error_code is not None or found.value not in self._arms:
            return Assignment(self._control, "default")
        metadata = found.flag_metadata or {}
        reason = metadata.get("nc_refiner.reason")
        if isinstance(reason, str):
            weight = metadata.get("nc_refiner.weight")
            return Assignment(found.value, reason, weight if isinstance(weight, float) else None)
        if str(found.reason) in ("DEFAULT", "DISABLED", "ERROR"):
            return Assignment(found.value, "default")
        return Assignment(found.value, "flag")


def hash_provider(splits: Mapping[str, Split]) -> FeatureProvider:
    """An OpenFeature provider that answers string flags with the salted hash.

    Args:
        splits: flag key → split. The evaluation context's targeting key is the unit; without one the answer is an
            error, and the client returns its default.

    Raises:
        ImportError: OpenFeature is not installed.

    Examples:
        >>> from openfeature import api
        >>> api.set_provider(hash_provider({"refiner": Split("sharper", {"control": 1, "nc": 1})}), "video")
        >>> api.get_client("video").get_string_value("refiner", "control") in ("control", "nc")
        True
    """
    try:
        from openfeature.exception import ErrorCode
        from openfeature.flag_evaluation import FlagResolutionDetails, Reason
        from openfeature.provider import AbstractProvider, Metadata
    except ImportError as error:
        raise ImportError(INSTALL) from error

    known = dict(splits)

    class HashProvider(AbstractProvider):
        def get_metadata(self) -> Metadata:
            return Metadata("nc_refiner salted hash")

        def resolve_string_details(
            self, flag_key: str, default_value: str, evaluation_context: Any = None
        ) -> FlagResolutionDetails[str]:
            split = known.get(flag_key)
            if split is None:
                return FlagResolutionDetails(
                    default_value, ErrorCode.FLAG_NOT_FOUND, f"no split is named {flag_key!r}", Reason.ERROR
                )
            unit = evaluation_context.targeting_key if evaluation_context else None
            if not unit:
                return FlagResolutionDetails(
                    default_value, ErrorCode.TARGETING_KEY_MISSING, "the unit is the targeting key", Reason.ERROR
                )
            given = split.assign(unit)
            metadata: dict[str, bool | int | float | str] = {"nc_refiner.reason": given.reason}
            if given.weight is not None:
                metadata["nc_refiner.weight"] = given.weight
            reason = Reason.SPLIT if given.exposed else Reason.DEFAULT
            return FlagResolutionDetails(given.arm, None, None, reason, given.arm, metadata)

        def _refused(self, flag_key: str, default_value: Any, evaluation_context: Any = None) -> Any:
            return FlagResolutionDetails(
                default_value, ErrorCode.TYPE_MISMATCH, f"{flag_key} names an arm: ask for a string", Reason.ERROR
            )

        resolve_boolean_details = _refused
        resolve_integer_details = _refused
        resolve_float_details = _refused
        resolve_object_details = _refused

    return HashProvider()
