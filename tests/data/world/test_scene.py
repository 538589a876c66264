"""The renderer's depth maps."""

from shapes_worlds import WORLD

from unify.data.world.scene import Scene, Thing


def test_depth_is_black_behind_and_brighter_towards_the_bottom():
    scene = Scene.of([Thing((r, 0), "square", "red", "large") for r in range(2)])
    depth = WORLD.renderer.depth(scene)
    assert (depth[:, 16:] == 0).all()
    assert depth[8, 8].tolist() == [128] * 3
    assert depth[24, 8].tolist() == [255] * 3
