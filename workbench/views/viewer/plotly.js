const titled = (axis, own) => ({ ...axis, ...own, title: { ...own.title, font: { size: 13 } } });

/** The figure's own layout inside the theme of the page: ink, grid, font, and no gesture that would trap scrolling. */
function themed(layout) {
  const ink = styled("--ink"), muted = styled("--muted"), rule = styled("--rule");
  const axis = { gridcolor: rule, linecolor: muted, tickcolor: muted, ticks: "outside", showline: true, zeroline: false, fixedrange: true, automargin: true };
  return {
    ...layout, dragmode: false, paper_bgcolor: styled("--paper"), plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { family: styled("--sans"), size: 13, color: ink }, margin: { l: 56, r: 16, t: layout.annotations?.length ? 26 : 10, b: 48 },
    showlegend: false,
    hoverlabel: { bgcolor: styled("--soft"), bordercolor: muted, font: { color: ink } },
    xaxis: titled(axis, layout.xaxis), yaxis: titled(axis, layout.yaxis),
    shapes: (layout.shapes ?? []).map((s) => ({ ...s, line: { ...s.line, color: muted } })),
    annotations: (layout.annotations ?? []).map((a) => ({ ...a, font: { size: 12, color: muted } })),
  };
}

views.plotly = async (block) => {
  const [spec] = await Promise.all([dataOf(block), library("plotly")]);
  const place = block.querySelector(".plot");
  const config = { responsive: true, scrollZoom: false, showTips: false, displayModeBar: false };
  const draw = () => Plotly.react(place, spec.data, themed(spec.layout), config);
  await draw();
  onScheme(draw);
  // What Plotly writes as an address is the text of the file.
  return { svg: async () => decodeURIComponent((await Plotly.toImage(place, { format: "svg", width: 900, height: 500 })).replace(/^[^,]*,/, "")) };
};
