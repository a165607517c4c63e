"""Cycles materials for Mira."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]


def linear(colour: Colour) -> tuple[float, float, float, float]:
    """Scene-linear RGBA of an sRGB colour 0..1."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return (r, g, b, 1.0)


def picture(name: str, pixels: NDArray[np.float32], data: bool = False) -> Any:
    """A Blender image from [H, W] or [H, W, 3] values 0..1, top row first."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, 2)
    height, width = pixels.shape[:2]
    image = bpy.data.images.new(name, width, height, float_buffer=True, is_data=data)
    value = pixels.astype(np.float32)
    if not data:
        # Float images hold linear values.
        value = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)
        image.colorspace_settings.name = "Linear Rec.709"
    rgba = np.concatenate([value, np.ones((height, width, 1), np.float32)], -1)[::-1]
    image.pixels.foreach_set(np.ascontiguousarray(rgba, np.float32).ravel())
    image.update()
    image.pack()
    return image


class Nodes:
    """A thin way of building a node tree: `add` makes a node, `link` joins sockets."""

    def __init__(self, name: str) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree

    @property
    def surface(self) -> Any:
        """The material's Principled BSDF."""
        return self.tree.nodes["Principled BSDF"]

    def add(self, kind: str, **values: Any) -> Any:
        """A new node; keywords are its attributes."""
        node = self.tree.nodes.new(kind)
        for key, value in values.items():
            setattr(node, key, value)
        return node

    def link(self, source: Any, target: Any) -> None:
        """Join two sockets."""
        self.tree.links.new(source, target)

    def bump(self, height: Any, strength: float, distance: float) -> None:
        """Give the surface a bump from a height socket."""
        node = self.add("ShaderNodeBump")
        node.inputs["Strength"].default_value = strength
        node.inputs["Distance"].default_value = distance
        self.link(height, node.inputs["Height"])
        self.link(node.outputs[0], self.surface.inputs["Normal"])


def flesh(
    name: str,
    colour: Colour,
    roughness: float,
    scatter: float = 0.0,
    specular: float = 0.5,
    coat: float = 0.0,
) -> Nodes:
    """A Principled material with skin-like scattering."""
    nodes = Nodes(name)
    inputs = nodes.surface.inputs
    inputs["Base Color"].default_value = linear(colour)
    inputs["Roughness"].default_value = roughness
    inputs["Subsurface Weight"].default_value = scatter
    inputs["Subsurface Radius"].default_value = (1.0, 0.35, 0.18)
    inputs["Subsurface Scale"].default_value = 0.30
    inputs["Specular IOR Level"].default_value = specular
    inputs["Coat Weight"].default_value = coat
    inputs["Coat Roughness"].default_value = 0.04
    return nodes


def painted_skin(colour: NDArray[np.float32], roughness: NDArray[np.float32], scalp: Colour) -> Any:
    """Skin from maps projected along z at rest (attribute `ref`), darker under hair (attribute `scalp`)."""
    from .paint import HEIGHT_CM, TOP_CM, WIDTH_CM

    nodes = flesh("skin", (1, 1, 1), 0.45, scatter=0.22, specular=0.36)
    rest = nodes.add("ShaderNodeAttribute", attribute_name="ref")
    place = nodes.add("ShaderNodeVectorMath", operation="MULTIPLY_ADD")
    place.inputs[1].default_value = (1 / WIDTH_CM, 1 / HEIGHT_CM, 0)
    place.inputs[2].default_value = (0.5, (HEIGHT_CM - TOP_CM) / HEIGHT_CM, 0)
    nodes.link(rest.outputs["Vector"], place.inputs[0])
    for pixels, data in ((colour, False), (roughness, True)):
        image = nodes.add("ShaderNodeTexImage", extension="EXTEND")
        image.image = picture("skin-data" if data else "skin", pixels, data)
        nodes.link(place.outputs[0], image.inputs[0])
        if data:
            nodes.link(image.outputs["Color"], nodes.surface.inputs["Roughness"])
            continue
        under = nodes.add("ShaderNodeAttribute", attribute_name="scalp")
        mix = nodes.add("ShaderNodeMix", data_type="RGBA")
        mix.inputs["B"].default_value = linear(scalp)
        nodes.link(under.outputs["Fac"], mix.inputs["Factor"])
        nodes.link(image.outputs["Color"], mix.inputs["A"])
        nodes.link(mix.outputs["Result"], nodes.surface.inputs["Base Color"])
    pores = nodes.add("ShaderNodeTexNoise")
    pores.inputs["Scale"].default_value = 7.0
    pores.inputs["Detail"].default_value = 3.0
    nodes.link(rest.outputs["Vector"], pores.inputs["Vector"])
    nodes.bump(pores.outputs[0], 0.07, 0.05)
    return nodes.material


def eye(iris: NDArray[np.float32]) -> Any:
    """The eyeball: the iris map is placed by the attribute `pole` (0.5, 0.5 in the pupil)."""
    nodes = flesh("eye", (1, 1, 1), 0.22, scatter=0.06, specular=0.5, coat=1.0)
    pole = nodes.add("ShaderNodeAttribute", attribute_name="pole")
    image = nodes.add("ShaderNodeTexImage", extension="EXTEND")
    image.image = picture("iris", iris)
    nodes.link(pole.outputs["Vector"], image.inputs[0])
    nodes.link(image.outputs["Color"], nodes.surface.inputs["Base Color"])
    return nodes.material


def knitwear(colour: Colour, stitches: NDArray[np.float32]) -> Any:
    """Knitted wool: attribute `stitch` holds (around, along, collar)."""
    nodes = flesh("knit", colour, 0.9, specular=0.15)
    place = nodes.add("ShaderNodeAttribute", attribute_name="stitch")
    image = nodes.add("ShaderNodeTexImage", extension="REPEAT")
    image.image = picture("knit", stitches, True)
    nodes.link(place.outputs["Vector"], image.inputs[0])
    split = nodes.add("ShaderNodeSeparateXYZ")
    nodes.link(place.outputs["Vector"], split.inputs[0])
    rib = nodes.add("ShaderNodeMath", operation="SINE")
    wide = nodes.add("ShaderNodeMath", operation="MULTIPLY")
    wide.inputs[1].default_value = 2 * np.pi
    nodes.link(split.outputs["X"], wide.inputs[0])
    nodes.link(wide.outputs[0], rib.inputs[0])
    half = nodes.add("ShaderNodeMath", operation="MULTIPLY_ADD")
    half.inputs[1].default_value, half.inputs[2].default_value = 0.5, 0.5
    nodes.link(rib.outputs[0], half.inputs[0])
    mix = nodes.add("ShaderNodeMix")
    nodes.link(split.outputs["Z"], mix.inputs["Factor"])
    nodes.link(image.outputs["Color"], mix.inputs["A"])
    nodes.link(half.outputs[0], mix.inputs["B"])
    nodes.bump(mix.outputs["Result"], 0.55, 0.16)
    dark = nodes.add("ShaderNodeMix", data_type="RGBA")
    dark.inputs["A"].default_value = linear((colour[0] * 0.87, colour[1] * 0.87, colour[2] * 0.87))
    dark.inputs["B"].default_value = linear(colour)
    nodes.link(mix.outputs["Result"], dark.inputs["Factor"])
    nodes.link(dark.outputs["Result"], nodes.surface.inputs["Base Color"])
    nodes.surface.inputs["Sheen Weight"].default_value = 0.25
    return nodes.material


def glow(light: NDArray[np.float32]) -> Any:
    """A lamp-less picture: emits `light` [H, W, 3] placed by the attribute `where` (0..1)."""
    nodes = Nodes("glow")
    nodes.tree.nodes.clear()
    out = nodes.add("ShaderNodeOutputMaterial")
    emission = nodes.add("ShaderNodeEmission")
    place = nodes.add("ShaderNodeAttribute", attribute_name="where")
    image = nodes.add("ShaderNodeTexImage", extension="EXTEND")
    image.image = picture("backdrop", light, data=True)
    nodes.link(place.outputs["Vector"], image.inputs[0])
    nodes.link(image.outputs["Color"], emission.inputs["Color"])
    nodes.link(emission.outputs[0], out.inputs[0])
    return nodes.material


def strand(name: str, melanin: float, redness: float, variation: float = 0.2) -> Any:
    """Hair by its pigment."""
    nodes = Nodes(name)
    nodes.tree.nodes.clear()
    out = nodes.add("ShaderNodeOutputMaterial")
    hair = nodes.add("ShaderNodeBsdfHairPrincipled", parametrization="MELANIN")
    hair.inputs["Melanin"].default_value = melanin
    hair.inputs["Melanin Redness"].default_value = redness
    hair.inputs["Roughness"].default_value = 0.27
    hair.inputs["Radial Roughness"].default_value = 0.5
    hair.inputs["Random Color"].default_value = variation
    nodes.link(hair.outputs[0], out.inputs[0])
    return nodes.material
