"""What was there before a deployment, and which version to return to."""

from __future__ import annotations

from dataclasses import asdict, replace

from pipeline.artefact.model import MODEL_NAME
from pipeline.deployment.annotations import (
    DEPLOYED,
    OBJECTS,
    OVERLAY,
    PREVIOUS_IMAGE,
    PREVIOUS_URI,
    annotated,
    fingerprinted,
    list_of_objects,
    objects_from_list,
    our_annotations_of,
    reference_to,
)
from pipeline.deployment.applied_fields import applied_by
from pipeline.deployment.cluster import FIELD_MANAGER
from pipeline.deployment.manifests import STANDARD, placed
from pipeline.deployment.models import model_of, with_model
from pipeline.deployment.objects import Object, image_of, service_in, service_of, storage_uri_of
from pipeline.deployment.records import Proved, Version, now


def proved(objects: list[Object]) -> Proved:
    """A record of these objects, which have just proved that they serve."""
    overlay = our_annotations_of(service_of(objects)).get(OVERLAY, STANDARD)
    model = model_of(service_of(objects))
    return Proved(**asdict(_version(objects)), overlay=overlay, at=now(), objects=objects, model=model)


def _version(objects: list[Object]) -> Version:
    service = service_of(objects)
    deployed = our_annotations_of(service).get(DEPLOYED, "")
    return Version(deployed, str(storage_uri_of(service)), image_of(objects))


class History:
    """live: the objects of a deployment as the cluster has them, without the missing ones.

    records: the versions that have proved themselves, the latest first.
    """

    def __init__(self, live: list[Object], records: list[Proved]) -> None:
        self._live = live
        self._annotations = our_annotations_of(service_in(live))
        self._records = [found for found in records if self._has_applied(found)]

    @property
    def model(self) -> str:
        """The live version's model; without a live version, the base's."""
        service = service_in(self._live)
        return model_of(service) if service else MODEL_NAME

    @property
    def is_up_to_date(self) -> bool:
        """Whether the live version, if there is one, is the latest that has proved itself."""
        return service_in(self._live) is None or any(found.is_same_as(self._version) for found in self._records[:1])

    def live_as_proved(self) -> Proved:
        """A record of the live version, which has just proved itself.

        It is the existing record; otherwise a new one, with the live fields if this tool applied those that matter.
        """
        if known := next((found for found in self._records if found.is_same_as(self._version)), None):
            return replace(known, at=now())
        own = self._applied_by_us()
        is_ours = DEPLOYED in our_annotations_of(service_in(own)) and _version(own) == self._version
        overlay = self._annotations.get(OVERLAY, STANDARD)
        objects = own if is_ours else None
        return Proved(**asdict(self._version), overlay=overlay, at=now(), objects=objects, model=self.model)

    def noted_in(self, objects: list[Object], overlay: str) -> list[Object]:
        """These objects, ready to apply, with annotations that say what they are."""
        ours = {OVERLAY: overlay, OBJECTS: self._list_with(objects)}
        if not self._records:  # keep what an older release remembered
            ours |= {name: was for name, was in self._annotations.items() if name in (PREVIOUS_URI, PREVIOUS_IMAGE)}
        return fingerprinted(objects, ours)

    def before(self, objects: list[Object]) -> list[Object] | None:
        """What to apply if these objects, from `noted_in`, do not serve; None if there is nothing.

        It is the latest other version that has proved itself, or else what an older release remembered.
        """
        if found := self._latest_but(_version(objects)):
            return self._restored(found, objects)
        return self._remembered(objects)

    def before_live(self) -> list[Object] | None:
        """The latest version, other than the live one, that has proved itself; or else as in `before`."""
        own = self._applied_by_us()
        others = own if service_in(own) else None
        if found := self._latest_but(self._version):
            return self._restored(found, others)
        return self._remembered(others)

    def _restored(self, found: Proved, others: list[Object] | None) -> list[Object] | None:
        """As it was applied; or, if somebody else applied it, `others` with that version."""
        ours = {OVERLAY: found.overlay, OBJECTS: self._list_with([*(found.objects or []), *(others or [])])}
        if found.objects is not None:
            return annotated(found.objects, ours | {DEPLOYED: found.deployed})
        if others is None or (found.image is None and image_of(others)):
            return None  # the image with which it answered is unknown
        others = with_model(others, found.model)
        return fingerprinted(placed(others, found.storage_uri, found.image if image_of(others) else None), ours)

    def _remembered(self, others: list[Object] | None) -> list[Object] | None:
        """`others` with the previous storageUri and image, which older releases noted in annotations."""
        if others is None or PREVIOUS_URI not in self._annotations or service_in(self._live) is None:
            return None
        image = self._annotations.get(PREVIOUS_IMAGE) if image_of(others) else None
        kept = {OVERLAY: self._annotations.get(OVERLAY, STANDARD), OBJECTS: self._list_with(others)}
        others = with_model(others, MODEL_NAME)  # older releases had no other
        return fingerprinted(placed(others, self._annotations[PREVIOUS_URI], image), kept)

    def _has_applied(self, found: Proved) -> bool:
        """Whether the InferenceService confirms it: writing ConfigMaps alone must not get other objects applied."""
        if OBJECTS not in self._annotations:
            return True
        applied = {reference_to(thing) for thing in objects_from_list(self._annotations[OBJECTS])}
        return all(reference_to(thing) in applied for thing in found.objects or [])

    def _latest_but(self, version: Version) -> Proved | None:
        return next((found for found in self._records if not found.is_same_as(version)), None)

    @property
    def _version(self) -> Version:
        return _version(self._live)

    def _applied_by_us(self) -> list[Object]:
        return [own for found in self._live if (own := applied_by(FIELD_MANAGER, found))]

    def _list_with(self, objects: list[Object]) -> str:
        """The names of these objects, and of earlier deployments' objects."""
        return list_of_objects([*objects, *objects_from_list(self._annotations.get(OBJECTS, ""))])
