"""A picture described again at strengths of a method: against edits given by hand, and its slider."""

from __future__ import annotations

import pytest

import workbench as wb
from workbench import images, visual
from workbench.errors import BadInput
from workbench.live.redescribing import redescribe
from workbench.tasks.scene_answers import PLACEHOLDER, describe
from workbench.tasks.scenes import DESCRIBE, scenes


@pytest.fixture(scope="module")
def shown():
    return wb.load("llava"), scenes("score", 8, counterfactual=True)


def test_captions_are_those_under_the_methods_edits(shown):
    model, them = shown
    changed = 0
    for scene in them[:4]:
        again = redescribe(model, scene.image, scene.objects, "amplify")
        every = [(layer, head) for layer in again.method.layers(model.n_layers) for head in range(model.n_heads)]
        assert again.at(0.0).text == describe(model, [scene])[0].text
        edit = wb.pai(every, tuple(range(1, 17)), 1.0, at="decode")
        assert again.at(1.0).text == describe(model, [scene], edits=edit)[0].text
        asked = images.prompt(model, PLACEHOLDER + DESCRIBE, scene.image)
        told = visual.tell(model, asked, edits=edit)
        [looks] = visual.look_at(model, told, [scene.image], edits=edit)
        assert (looks.mass == again.at(1.0).mass).all()
        changed += again.at(0.0).text != again.at(1.0).text or (again.at(0.0).mass != looks.mass).any()
    assert changed == 4


def test_a_method_that_reads_scores(shown):
    model, them = shown
    asked = images.prompt(model, [PLACEHOLDER + DESCRIBE] * 8, [s.image for s in them])
    vhd = visual.vhd(visual.read(model, visual.tell(model, asked)), **visual.about(model))
    again = redescribe(model, them[0].image, them[0].objects, "by-divergence", {"vhd": vhd})
    assert again.at(1.0).mass.shape[1:] == (model.n_layers, model.n_heads)
    with pytest.raises(BadInput, match="by-divergence needs the head scores vhd"):
        redescribe(model, them[0].image, method="by-divergence")
    with pytest.raises(BadInput, match="Did you mean 'amplify'"):
        redescribe(model, them[0].image, method="amplifi")
    with pytest.raises(BadInput, match=r"head \(9, 0\) is outside 4 x 8"):
        redescribe(model, them[0].image, head=(9, 0))


def test_the_table_and_the_slider_say_the_same(shown):
    ipywidgets = pytest.importorskip("ipywidgets")
    model, them = shown
    inventing = next(s for s in them if redescribe(model, s.image, s.objects).html(0.0).count("invented "))
    again = redescribe(model, inventing.image, inventing.objects, head=(2, 5))
    table = again._repr_html_()
    assert table.count("<tr>") == 1 + len(again.strengths) and "(unchanged)" in table and "wavy" in table
    slider = again.slider()
    knob, answer = slider.box.children
    assert isinstance(knob, ipywidgets.FloatSlider) and (knob.min, knob.max) == (0.0, 1.0)
    for strength in (0.0, 1.0):
        knob.value = strength
        assert answer.value == again.html(strength)
        assert all(word.text in answer.value for word in again.at(strength).words) and "<img" in answer.value
    bundle = slider._repr_mimebundle_()
    assert bundle["text/html"] == table and "<script" not in table + answer.value
    assert any("widget-view" in kind for kind in bundle)
