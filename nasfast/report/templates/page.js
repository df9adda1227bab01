for (const figure of document.querySelectorAll('figure[data-points]')) {
  const points = JSON.parse(figure.dataset.points);
  const svg = figure.querySelector('svg'), cursor = figure.querySelector('.cursor');
  const output = figure.querySelector('output');
  if (!points.length) continue;
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const near = points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
    cursor.setAttribute('x1', near[0]);
    cursor.setAttribute('x2', near[0]);
    cursor.style.opacity = 1;
    output.textContent = near[1];
  });
  svg.addEventListener('pointerleave', () => { cursor.style.opacity = 0; output.textContent = '\u00a0'; });
}
