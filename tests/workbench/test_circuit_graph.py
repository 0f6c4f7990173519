"""The circuit graph as text: what is drawn is what the circuit holds, and names of labels and roles stay text."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
from sample_circuits import COLOURS, IOI, circuit_of, two_circuits

from workbench.errors import BadInput
from workbench.views import CircuitGraph
from workbench.views.colours import OKABE_ITO
from workbench.views.graph_diff import diff_of
from workbench.views.graph_drawing import Drawing
from workbench.views.graph_parts import ABLATION, MAX_NODES, graph_of


def nodes_of(html):
    return re.findall(r'<g class="node" data-n="(\d+)" data-head="([\d.]+)" data-share="([^"]+)"><title>([^<]*)', html)


def edges_of(html):
    found = re.findall(r'<g class="edge" data-s="(\d+)" data-r="(\w+)" data-share="([^"]+)"><title>([^<]*)', html)
    widths = [float(x) for x in re.findall(r'stroke-width="([\d.]+)" d="M[^>]*/></g>', html)]
    return found, widths


def test_every_head_and_edge_stands_once_with_its_evidence():
    one = two_circuits()[0]
    html = CircuitGraph([one]).html()
    nodes, (edges, widths) = nodes_of(html), edges_of(html)
    assert sorted(n[1] for n in nodes) == sorted({f"{a}.{b}" for a, b in one.nodes})
    assert len(edges) == len(one.edges) == len(widths)
    name = {n[0]: n[1] for n in nodes} | {"logits": "logits"}
    drawn = {(name[s], name[r], float(share)) for s, r, share, _ in edges}
    held = {
        (f"{e.edge.sender[0]}.{e.edge.sender[1]}",
         "logits" if e.edge.receiver is None else f"{e.edge.receiver[0]}.{e.edge.receiver[1]}", float(f"{abs(e.share):.6g}"))
        for e in one.edges
    }  # fmt: skip
    assert drawn == held
    shares = [float(e[2]) for e in edges]
    assert widths == sorted(widths) and widths[-1] == 6.0, "the strongest is drawn last, and thickest"
    assert all(abs(w - (1 + 5 * s / max(shares))) < 0.006 for w, s in zip(widths, shares, strict=True))
    mover = next(n[3] for n in nodes if n[1] == "9.9")
    assert mover == "L9H9 at END. 1 logits@END: 0.90 [0.86, 0.94] of the gap, mover (attends END 0.80)"
    negative = [line for line in graph_of(one).lines if line.share < 0]
    assert negative and all(graph_of(one).line_looks[line.kind].dash for line in negative)


def test_layers_go_up_the_logits_label_is_on_the_right_and_nothing_overlaps():
    one = two_circuits()[0]
    drawing = Drawing(graph_of(one))
    assert drawing.graph.columns == (ABLATION, "S1+1", "S2", "END")
    at = {n.head: c for n, c in zip(drawing.graph.nodes, drawing.centres, strict=True)}
    for a, b in ((x, y) for x in at for y in at if x[0] < y[0]):
        assert at[a][1] > at[b][1], (a, b)
    assert at[2, 2][0] < at[5, 5][0] < at[7, 3][0] and drawing.logits[1] < min(y for _, y in at.values())
    places = list(at.values())
    assert all(abs(x[0] - y[0]) >= 50 or abs(x[1] - y[1]) >= 22 for i, x in enumerate(places) for y in places[:i])
    width, height = drawing.size
    assert all(25 <= x <= width - 25 and 11 <= y <= height - 11 for x, y in [*places, drawing.logits])


def test_two_circuits_show_what_they_share_in_colour_and_dashes():
    a, b = two_circuits()
    graph = diff_of(a, b, ("ioi", "colours"))
    kinds = {n.head: n.kind for n in graph.nodes}
    assert {h for h, k in kinds.items() if k == "shared"} == set(a.nodes) & set(b.nodes) >= {(9, 9), (8, 6), (0, 10)}
    assert {h for h, k in kinds.items() if k == "only colours"} == set(b.nodes) - set(a.nodes)
    assert graph.columns == (ABLATION, "4 k", "3 v", "2 q", "1 logits")
    looks = [graph.node_looks[k] for k in ("shared", "only ioi", "only colours")]
    assert len({x.colour for x in looks} & set(OKABE_ITO)) == 3 and len({x.dash for x in looks}) == 3
    moved = next(n for n in graph.nodes if n.head == (8, 6))
    assert moved.column == "2 q" and "ioi: 2 q@END" in moved.text and "colours: 3 v@object" in moved.text
    edges = {(graph.nodes[x.sender].head, x.receiver and graph.nodes[x.receiver].head): x.kind for x in graph.lines}
    assert edges[(9, 9), None] == "shared" and edges[(7, 3), (9, 9)] == "shared" and edges[(10, 7), None] == "only ioi"
    said = CircuitGraph([a, b], caption="c").html()
    assert "6 heads in both circuits, 10 only in ioi, 2 only in colored-objects" in said
    assert CircuitGraph([a, a]).called == ("A", "B")


class Tags(HTMLParser):
    """Collects tags and attribute names."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, tuple(name for name, _ in attrs)))


@pytest.mark.parametrize("word", ["</title><script>alert(1)</script>", '" onload="alert(1)', "a & <b>"])
def test_hostile_labels_and_roles_add_no_tag_and_no_attribute(word):
    def blocks(text):
        stages = {(1, "resid", text): {text: [(2, 0)]}, (2, text, text): {text + "2": [(1, 0)]}}
        one = circuit_of(stages, task=text, shape=(3, 2), needed=[(0, 0)])
        return CircuitGraph([one], [text], text, text, text), CircuitGraph([one, one], [text, "b"], text)

    for hostile, tame in zip(blocks(word), blocks("tame"), strict=True):
        assert Tags(hostile.html()).found == Tags(tame.html()).found
        assert Tags(hostile._repr_html_()).found == Tags(tame._repr_html_()).found


def test_too_much_is_cut_by_share_and_said_and_nothing_is_drawn_as_nothing():
    many = circuit_of({(1, "resid", "END"): {"mover": [(i, j) for i in range(16) for j in range(16)]}}, shape=(16, 16))
    graph = graph_of(many)
    assert len(graph.nodes) == MAX_NODES and graph.left_out == "56 heads and 56 edges with smaller shares"
    least = min(abs(n.share) for n in graph.nodes)
    assert sum(abs(h.share) > least for h in many.heads) < MAX_NODES
    assert "Not drawn: 56 heads" in CircuitGraph([many]).html()
    empty = CircuitGraph([circuit_of({})]).html()
    assert "0 heads, 0 edges" in empty and not nodes_of(empty)
    lost = circuit_of(IOI, heads=tuple(h for h in circuit_of(IOI).heads if h.head != (9, 9)))
    assert "edges to or from heads that are not in the circuit" in graph_of(lost).left_out


def test_circuits_that_cannot_be_laid_over_one_another_are_refused():
    a, b = circuit_of(IOI), circuit_of(COLOURS, shape=(12, 16))
    for circuits, names in (([], ()), ([a, a, a], ()), ([a, b], ()), ([a, a], ("x", "x")), ([a], ("x", "y"))):
        with pytest.raises(BadInput, match="circuit graph"):
            CircuitGraph(circuits, names)


def test_the_notebook_picture_is_small_and_has_no_script():
    html = CircuitGraph(two_circuits(), title="Reuse")._repr_html_()
    assert len(html.encode()) < 60_000 and "<script" not in html and "http" not in html
    drawn = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1]).decode()
    assert drawn.count('class="node"') == 18 and 'xmlns="http://www.w3.org/2000/svg"' in drawn
