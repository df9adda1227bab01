"""A script for a page in a browser that lists whatever of it is cut off, overlaps or lies outside of its drawing."""

CUT_OFF = """
(() => {
  const found = [], wide = innerWidth + 0.5;
  const name = e => `${e.tagName}.${e.getAttribute('class') || ''} "${(e.textContent || '').slice(0, 40)}"`;
  if (document.documentElement.scrollWidth > innerWidth) found.push('page scrolls sideways');
  for (const e of document.body.querySelectorAll('*')) {
    if (e.closest('title, script, style')) continue;
    if (e.closest('.wide, .leaders')) continue;  // they scroll
    const box = e.getBoundingClientRect();
    if (box.right > wide || box.left < -0.5) found.push('outside the window: ' + name(e));
    if (!(e instanceof SVGElement) && e.clientWidth && e.scrollWidth > e.clientWidth + 1)
      found.push('overflows: ' + name(e));
  }
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    for (const e of svg.querySelectorAll('text, rect, circle, path')) {
      const box = e.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
          || box.bottom > frame.bottom + 1) found.push('outside its drawing: ' + name(e));
    }
    const texts = [...svg.querySelectorAll('text')].map(e => [e, e.getBoundingClientRect()]);
    texts.forEach(([a, p], i) => texts.slice(0, i).forEach(([b, q]) => {
      if (p.left < q.right && q.left < p.right && p.top < q.bottom - 2 && q.top < p.bottom - 2)
        found.push(`texts overlap: ${name(a)} and ${name(b)}`);
    }));
    for (const op of svg.querySelectorAll('.op')) {
      const [text, pill] = ['text', 'rect'].map(tag => op.querySelector(tag).getBoundingClientRect());
      if (text.left < pill.left || text.right > pill.right) found.push('label wider than its frame: ' + name(op));
    }
  }
  return found;
})()
"""
