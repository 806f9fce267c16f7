"""The demo's classes: a few, coarse and well filled, made of the emoji data's subcategories."""

from __future__ import annotations

# In this order their index is the class id, so new ones go to the end.
CLASSES: dict[str, tuple[str, ...]] = {
    "smiley": (
        "face-affection", "face-concerned", "face-glasses", "face-hand", "face-hat", "face-negative",
        "face-neutral-skeptical", "face-sleepy", "face-smiling", "face-tongue", "face-unwell",
    ),
    "heart": ("heart",),
    "person": ("person", "person-role", "person-fantasy", "person-gesture"),
    "hand": (
        "hand-fingers-closed", "hand-fingers-open", "hand-fingers-partial", "hand-prop",
        "hand-single-finger", "hands",
    ),
    "animal": (
        "animal-amphibian", "animal-bird", "animal-bug", "animal-mammal", "animal-marine",
        "animal-reptile", "cat-face", "monkey-face",
    ),
    "plant": ("plant-flower", "plant-other"),
    "fruit and vegetable": ("food-fruit", "food-vegetable"),
    "food": ("food-prepared", "food-asian", "food-sweet"),
    "vehicle": ("transport-ground", "transport-water", "transport-air"),
    "building": ("place-building", "place-religious", "hotel"),
    "clock": ("time",),
    "sky and weather": ("sky & weather",),
    "clothing": ("clothing",),
    "sign": (
        "alphanum", "arrow", "av-symbol", "keycap", "zodiac", "religion", "transport-sign", "other-symbol",
    ),
}  # fmt: skip

LABELS: tuple[str, ...] = tuple(CLASSES)

# Filed under transport, and not a vehicle.
NOT_VEHICLES = {
    "busstop", "motorway", "railway_track", "oildrum", "fuelpump", "rotating_light", "traffic_light",
    "vertical_traffic_light", "octagonal_sign", "construction", "anchor", "ring_buoy", "seat", "wheel",
    "skateboard", "roller_skate",
}  # fmt: skip

_CLASS_OF = {subcategory: index for index, parts in enumerate(CLASSES.values()) for subcategory in parts}


def class_of(subcategory: str, short_name: str) -> int:
    """Class id of an emoji, or -1 when it belongs to none."""
    if short_name in NOT_VEHICLES:
        return -1
    return _CLASS_OF.get(subcategory, -1)
