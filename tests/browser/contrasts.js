// The contrast of each visible text and line with what is painted behind it, by WCAG 2's formula:
// [ratio, "text" or "line", which], the worst first.
() => {
  const rgba = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const ground = (node) => {
    const box = node.closest(".graph a")?.querySelector("rect");
    if (box) return rgba(getComputedStyle(box).fill).rgb;
    for (let at = node; at; at = at.parentElement) {
      const { rgb, a } = rgba(getComputedStyle(at).backgroundColor);
      if (a === 1) return rgb;
      if (a !== 0) throw new Error("a ground that is half transparent");
    }
    throw new Error("no ground");
  };

  const found = [];
  for (const node of document.querySelectorAll("body *:not(script, style, noscript)")) {
    const svg = node instanceof SVGElement;
    const line = svg && node.matches(".series > *, .legend path");
    const text = [...node.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    if (!(line || text) || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    if (style.opacity !== "1") throw new Error(`${node.tagName} is half transparent`);
    const color = rgba(line ? style.stroke === "none" ? style.fill : style.stroke : svg ? style.fill : style.color);
    const which = `${node.tagName}.${node.getAttribute("class")}: ${node.textContent.trim().slice(0, 30)}`;
    found.push([ratio(color.rgb, ground(node)), line ? "line" : "text", which]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}
