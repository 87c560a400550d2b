"""What was there before a deployment, and which version one returns to."""

from __future__ import annotations

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
)
from pipeline.deployment.applied_fields import applied_by
from pipeline.deployment.cluster import FIELD_MANAGER
from pipeline.deployment.manifests import STANDARD, placed
from pipeline.deployment.objects import Object, image_of, is_ready, service_in, service_of, storage_uri_of


class History:
    """live: the objects of a deployment as the cluster has them; those that it does not have are left out.

    The version before is the one that the annotations of the live InferenceService remember.
    """

    def __init__(self, live: list[Object]) -> None:
        self._live = live
        self._service = service_in(live)
        self._annotations = our_annotations_of(self._service)

    def remembered_in(self, objects: list[Object], overlay: str) -> list[Object]:
        """These objects, to be applied, with annotations that remember the live version.

        They keep the version before instead where the live one is the same, or never was ready: none to go back to.
        """
        ours = {OVERLAY: overlay, OBJECTS: self._list_with(objects)}
        previous = {name: was for name, was in self._annotations.items() if name in (PREVIOUS_URI, PREVIOUS_IMAGE)}
        if self._service is not None and is_ready(self._service):
            uri, image = storage_uri_of(self._service), image_of(self._live)
            if uri and (uri, image) != (storage_uri_of(service_of(objects)), image_of(objects)):
                previous = _as_previous(uri, image)
        return fingerprinted(objects, ours | previous)

    def to_return_to(self, objects: list[Object]) -> list[Object] | None:
        """What to apply where these objects, from `remembered_in`, do not serve; None where there is nothing.

        The live version, if that was ready: as this tool applied it, field for field, where it did; else these objects
        with that version. Or these objects with the version before it.
        """
        if self._service is None:
            return None
        is_another = self._annotations.get(DEPLOYED) != our_annotations_of(service_of(objects))[DEPLOYED]
        if is_another and is_ready(self._service):
            was = self._applied_by_us()
            ours = our_annotations_of(service_in(was))
            if DEPLOYED in ours:
                return annotated(was, ours | {OBJECTS: self._list_with(objects)})
            older = placed(objects, str(storage_uri_of(self._service)), image_of(self._live))
            return fingerprinted(older, our_annotations_of(service_of(older)))
        if PREVIOUS_URI not in self._annotations:
            return None
        overlay = self._annotations.get(OVERLAY, STANDARD)
        return fingerprinted(self._with_previous(objects), {OVERLAY: overlay, OBJECTS: self._list_with(objects)})

    def previous(self) -> list[Object] | None:
        """The live objects, as this tool applied them, with the version before, which then remember the live one.

        None where no version before is known, or this tool has not applied the InferenceService.
        """
        own = self._applied_by_us()
        if self._service is None or PREVIOUS_URI not in self._annotations or service_in(own) is None:
            return None
        kept = {name: self._annotations[name] for name in (OVERLAY, OBJECTS) if name in self._annotations}
        live = _as_previous(str(storage_uri_of(self._service)), image_of(self._live))
        return fingerprinted(self._with_previous(own), kept | live)

    def _applied_by_us(self) -> list[Object]:
        return [own for found in self._live if (own := applied_by(FIELD_MANAGER, found))]

    def _with_previous(self, objects: list[Object]) -> list[Object]:
        image = self._annotations.get(PREVIOUS_IMAGE) if image_of(objects) else None
        return placed(objects, self._annotations[PREVIOUS_URI], image)

    def _list_with(self, objects: list[Object]) -> str:
        """What these objects are called, and those of the deployments before."""
        return list_of_objects([*objects, *objects_from_list(self._annotations.get(OBJECTS, ""))])


def _as_previous(uri: str, image: str | None) -> dict[str, str]:
    return {PREVIOUS_URI: uri} | ({PREVIOUS_IMAGE: image} if image else {})
