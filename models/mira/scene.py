"""Mira's studio: one Cycles scene that stays loaded while expressions change.

Blender's axes: x to the avatar's left, -y towards the camera, z up (cm).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")  # read when OpenCV is first imported

import bpy
import cv2
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

from . import garment, hair, materials, paint
from .backdrop import BACKDROP_Y, backdrop
from .boxes import FRAME, WHOLE, Box
from .coefficients import Face
from .facekit import (
    BACK_HEAD,
    EYE_LEFT,
    EYE_RIGHT,
    FACE,
    GUMS_TONGUE,
    SCLERA_L,
    SCLERA_R,
    SKIN_END,
    SOCKET_START,
    TEETH,
    Array,
    Index,
    load,
)
from .fringe import Follower, brows, lashes
from .identity import neutral_head

CAMERA_DISTANCE = 125.0
FRAME_CM = 38.5
"""Width of the frame at the depth of the face (z = 8)."""
FACE_Z = 8.0
CENTRE_Y = -1.0
"""Height at the middle of the frame."""

HAIR_MELANIN, HAIR_REDNESS = 0.66, 0.26
WOOL = (0.44, 0.52, 0.53)


def to_blender(points: Array) -> NDArray[np.float32]:
    """Head axes (y up, z to the front) to Blender's."""
    return np.ascontiguousarray(np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1), np.float32)


class Studio:
    """The scene with Mira in it. `threads` is Cycles' thread count."""

    def __init__(self, mesh: Path, threads: int = 1) -> None:
        kit = load(mesh)
        self.face = Face(kit, neutral_head(kit))
        self._meshes: list[tuple[Any, Index]] = []
        self._scratch = Path(tempfile.mkdtemp(prefix="mira-"))
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self.scene = bpy.context.scene
        self._add_head()
        self._add_eyes()
        self._add_hair()
        self._add_pullover()
        self._add_backdrop()
        self._light()
        self._camera()
        self._engine(threads)

    # ---- objects -------------------------------------------------------------------------------
    def _mesh(
        self, name: str, faces: list[list[int]], points: Array, material: Any, moves: bool, **extra: Array
    ) -> Any:
        used = np.unique(np.concatenate([np.asarray(f) for f in faces]))
        local = np.full(len(points), -1)
        local[used] = np.arange(len(used))
        mesh = bpy.data.meshes.new(name)
        mesh.from_pydata(to_blender(points[used]).tolist(), [], [local[f].tolist() for f in faces])
        mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
        for key, value in extra.items():
            kind, field = ("FLOAT_VECTOR", "vector") if value.ndim == 2 else ("FLOAT", "value")
            attribute = mesh.attributes.new(key, kind, "POINT")
            attribute.data.foreach_set(field, np.ascontiguousarray(value[used], np.float32).ravel())
        thing = bpy.data.objects.new(name, mesh)
        self.scene.collection.objects.link(thing)
        mesh.materials.append(material)
        smooth = thing.modifiers.new("smooth", "SUBSURF")
        smooth.levels = smooth.render_levels = 1
        if moves:
            self._meshes.append((mesh, used))
        return thing

    def _add_head(self) -> None:
        kit, head = self.face.kit, self.face.head
        colour, roughness = paint.skin(head)
        under_hair = (np.clip((hair.scalp_depth(head) + 0.1) / 1.1, 0, 1) * 0.97).astype(np.float32)
        skin = materials.painted_skin(colour, roughness, (0.17, 0.11, 0.085))
        hidden = garment.hidden_skin(head)
        outer = [f for f in kit.polygons(FACE, BACK_HEAD, high=SKIN_END) if not hidden[f].all()]
        self._mesh("head", outer, head, skin, True, ref=head, scalp=under_hair)
        flesh = materials.flesh
        mouth = flesh("mouth", (0.62, 0.29, 0.28), 0.35, 0.1)
        inner = kit.polygons(FACE, BACK_HEAD)
        self._mesh("mouth", [f for f in inner if SKIN_END <= max(f) < SOCKET_START], head, mouth.material, True)
        socket = flesh("socket", (0.76, 0.47, 0.42), 0.45, 0.1)
        self._mesh("socket", [f for f in inner if max(f) >= SOCKET_START], head, socket.material, True)
        tongue_vertex = np.zeros(len(head), bool)
        tongue_vertex[kit.tongue] = True
        gums: list[list[int]] = []
        tongue: list[list[int]] = []
        for face in kit.polygons(GUMS_TONGUE):
            (tongue if tongue_vertex[face].all() else gums).append(face)
        self._mesh("gums", gums, head, flesh("gums", (0.76, 0.42, 0.41), 0.25, 0.2).material, True)
        self._mesh("tongue", tongue, head, flesh("tongue", (0.86, 0.47, 0.47), 0.38, 0.2).material, True)
        teeth = flesh("teeth", (0.92, 0.89, 0.83), 0.20, 0.12)
        self._mesh("teeth", kit.polygons(TEETH), head, teeth.material, True)

    def _add_eyes(self) -> None:
        kit, head = self.face.kit, self.face.head
        look = materials.eye(paint.iris())
        for name, eye, material in (("left", EYE_LEFT, SCLERA_L), ("right", EYE_RIGHT, SCLERA_R)):
            ball = head[eye]
            centre = (ball.max(0) + ball.min(0)) / 2
            pole = np.zeros_like(head)
            # The iris' edge is 0.74 cm from the axis and lies at 0.4 of the map's width.
            pole[eye, :2] = (ball - centre)[:, :2] / 0.74 * 0.4 + 0.5
            faces = kit.polygons(material, low=eye.start, high=eye.stop)
            self._mesh(f"eye-{name}", faces, head, look, True, pole=pole)

    def _curves(self, name: str, points: Array, root: float, tip: float, material: Any) -> Any:
        count, each = points.shape[:2]
        data = bpy.data.hair_curves.new(name)
        data.add_curves([each] * count)
        data.attributes["position"].data.foreach_set("vector", to_blender(points).ravel())
        radius = data.attributes.get("radius") or data.attributes.new("radius", "FLOAT", "POINT")
        profile = root + (tip - root) * np.linspace(0, 1, each) ** 1.5
        radius.data.foreach_set("value", np.tile(profile, count).astype(np.float32))
        self.scene.collection.objects.link(bpy.data.objects.new(name, data))
        data.materials.append(material)
        return data

    def _keep_built(self, thing: Any) -> None:
        """Spare Cycles from rebuilding what never moves whenever anything else does.

        A geometry with one user goes into the scene's one search tree, which every change rebuilds; one with
        two users gets a tree of its own. The second user is a speck far behind the camera (a change of an
        expression then costs 0.16 s instead of 0.55 s).
        """
        twin = bpy.data.objects.new(f"{thing.name}-twin", thing.data)
        twin.location, twin.scale = (0, -2000, 0), (1e-3, 1e-3, 1e-3)
        for modifier in thing.modifiers:
            copy = twin.modifiers.new(modifier.name, modifier.type)
            copy.levels, copy.render_levels = modifier.levels, modifier.render_levels
        self.scene.collection.objects.link(twin)

    def _add_hair(self) -> None:
        kit, head = self.face.kit, self.face.head
        brown = materials.strand("hair", HAIR_MELANIN, HAIR_REDNESS)
        self._curves("hair", hair.grow(kit, head), 0.0235, 0.010, brown)
        self._curves("baby-hair", hair.baby_hair(kit, head), 0.011, 0.003, brown)
        for name in ("hair", "baby-hair"):
            self._keep_built(bpy.data.objects[name])
        self._brows, self._lashes = brows(kit, head), lashes(kit, head)
        brow = materials.strand("brow", 0.57, 0.36)
        lash = materials.strand("lash", 0.96, 0.3)
        self._followers: list[tuple[Any, Follower]] = [
            (self._curves("brows", self._brows.rest, 0.0135, 0.004, brow), self._brows),
            (self._curves("lashes", self._lashes.rest, 0.0120, 0.003, lash), self._lashes),
        ]

    def _add_pullover(self) -> None:
        wear = garment.build(self.face.head)
        wool = materials.knitwear(WOOL, paint.knit())
        self._keep_built(self._mesh("pullover", wear.faces.tolist(), wear.vertices, wool, False, stitch=wear.stitch))

    def _add_backdrop(self) -> None:
        """A plane that only the camera sees, so that it fills the frame and lights nothing."""
        half = FRAME_CM / 2 * (CAMERA_DISTANCE + BACKDROP_Y) / (CAMERA_DISTANCE - FACE_Z)
        corner = [(-half, -half), (half, -half), (half, half), (-half, half)]
        mesh = bpy.data.meshes.new("backdrop")
        # The lens is shifted, not tilted: the frame's middle lies on one line through the lens.
        middle = CENTRE_Y + 1.6 - 1.6 * (CAMERA_DISTANCE + BACKDROP_Y) / (CAMERA_DISTANCE - FACE_Z)
        mesh.from_pydata([(x, BACKDROP_Y, middle + z) for x, z in corner], [], [[0, 1, 2, 3]])
        where = mesh.attributes.new("where", "FLOAT_VECTOR", "POINT")
        where.data.foreach_set(
            "vector", np.array([[x / half / 2 + 0.5, z / half / 2 + 0.5, 0] for x, z in corner]).ravel()
        )
        mesh.materials.append(materials.glow(backdrop(FRAME)))
        self._backdrop = bpy.data.objects.new("backdrop", mesh)
        for kind in ("diffuse", "glossy", "transmission", "volume_scatter", "shadow"):
            setattr(self._backdrop, f"visible_{kind}", False)
        self.scene.collection.objects.link(self._backdrop)

    # ---- light, camera, engine -----------------------------------------------------------------
    def _area(
        self, place: tuple[float, float, float], size: float, watts: float, colour: tuple[float, float, float]
    ) -> None:
        light = bpy.data.lights.new("area", "AREA")
        light.energy, light.size, light.color = watts, size, colour
        thing = bpy.data.objects.new("area", light)
        thing.location = place
        thing.rotation_euler = (-Vector(place)).to_track_quat("-Z", "Y").to_euler()
        self.scene.collection.objects.link(thing)

    def _light(self) -> None:
        self._area((-42, -70, 36), 40, 44_000, (1.0, 0.965, 0.92))
        self._area((58, -52, 6), 50, 10_000, (0.93, 0.96, 1.0))
        self._area((0, -60, -38), 40, 3_500, (1.0, 0.97, 0.95))
        # Near the lens, so that it reaches into the open mouth.
        self._area((3, -122, -6), 14, 26_000, (1.0, 0.98, 0.96))
        # Behind and above: separates the hair from the background; neutral, or brown hair turns orange.
        self._area((24, 58, 46), 40, 4_500, (0.86, 0.93, 1.0))
        self._area((-40, 50, 30), 40, 3_000, (0.86, 0.93, 1.0))
        world = bpy.data.worlds.new("studio")
        self.scene.world = world
        world.use_nodes = True
        node = world.node_tree.nodes["Background"]
        node.inputs[0].default_value = (0.60, 0.63, 0.68, 1)
        node.inputs[1].default_value = 0.34

    def _camera(self) -> None:
        data = bpy.data.cameras.new("camera")
        camera = bpy.data.objects.new("camera", data)
        camera.location = (0, -CAMERA_DISTANCE, CENTRE_Y + 1.6)
        camera.rotation_euler = (np.pi / 2, 0, 0)
        data.sensor_width = 36
        data.lens = 36 * (CAMERA_DISTANCE - FACE_Z) / FRAME_CM
        data.shift_y = -1.6 / FRAME_CM
        data.clip_end = 500
        self.scene.collection.objects.link(camera)
        self.scene.camera = camera

    def _engine(self, threads: int) -> None:
        scene = self.scene
        scene.render.engine = "CYCLES"
        scene.cycles.device = "CPU"
        scene.cycles.use_adaptive_sampling = False
        scene.cycles.use_denoising = True
        scene.cycles.denoiser = "OPENIMAGEDENOISE"
        scene.cycles.max_bounces = 6
        scene.cycles.transparent_max_bounces = 4
        scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
        scene.render.threads_mode, scene.render.threads = "FIXED", threads
        scene.render.film_transparent = True
        scene.render.use_persistent_data = True
        scene.render.resolution_percentage = 100
        scene.render.image_settings.file_format = "PNG"
        scene.render.image_settings.color_mode = "RGBA"
        scene.view_settings.view_transform = "AgX"
        scene.view_settings.look = "AgX - Medium High Contrast"
        scene.view_settings.exposure = 0.5

    # ---- use -----------------------------------------------------------------------------------
    def pose(self, expression: NDArray[np.float64]) -> None:
        """Give Mira an expression [52] (order of `ARKIT_52`)."""
        points = self.face.pose(expression)
        for mesh, used in self._meshes:
            mesh.vertices.foreach_set("co", to_blender(points[used]).ravel())
            mesh.update()
        displacement = points - self.face.head
        for data, follower in self._followers:
            moved = follower.follow(displacement)
            data.attributes["position"].data.foreach_set("vector", to_blender(moved).ravel())
            data.update_tag()

    def render(self, box: Box = WHOLE, samples: int = 16, scale: int = 1, seed: int = 0) -> NDArray[np.uint8]:
        """[h * scale, w * scale, 4] RGBA (straight alpha) of a box of the frame."""
        render = self.scene.render
        self.scene.cycles.samples, self.scene.cycles.seed = samples, seed
        render.resolution_x = render.resolution_y = FRAME * scale
        render.use_border = render.use_crop_to_border = box != WHOLE
        render.border_min_x, render.border_max_x = box.x / FRAME, (box.x + box.w) / FRAME
        render.border_min_y, render.border_max_y = 1 - (box.y + box.h) / FRAME, 1 - box.y / FRAME
        target = self._scratch / "picture.png"
        render.filepath = str(target)
        bpy.ops.render.render(write_still=True)
        image = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
        assert image is not None and image.shape[:2] == (box.h * scale, box.w * scale)
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA).astype(np.uint8)

    def light(self, samples: int, scale: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mira without the backdrop: premultiplied linear light [H, W, 3] and alpha [H, W] of the whole frame."""
        settings, render = self.scene.render.image_settings, self.scene.render
        self._backdrop.hide_render = True
        settings.file_format, settings.color_depth = "OPEN_EXR", "32"
        self.scene.cycles.samples = samples
        render.use_border = False
        render.resolution_x = render.resolution_y = FRAME * scale
        target = self._scratch / "light.exr"
        render.filepath = str(target)
        bpy.ops.render.render(write_still=True)
        self._backdrop.hide_render = False
        settings.file_format, settings.color_depth = "PNG", "8"
        image = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
        assert image is not None and image.shape == (FRAME * scale, FRAME * scale, 4)
        return np.ascontiguousarray(image[..., 2::-1], np.float32), np.clip(image[..., 3], 0, 1).astype(np.float32)

    def picture(self, box: Box = WHOLE, samples: int = 16, seed: int = 0) -> NDArray[np.uint8]:
        """[h, w, 3] RGB of a box, opaque."""
        return np.ascontiguousarray(self.render(box, samples, seed=seed)[..., :3])
