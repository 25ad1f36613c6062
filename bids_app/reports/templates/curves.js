'use strict';
// Curves: the one pointed at, or gone along by the arrow keys, is named, with its place and its value.
for (const chart of document.querySelectorAll('.chart svg[data-x]')) {
  const [x, y] = ['x', 'y'].map(name => chart.dataset[name].split(' ').map(Number));
  const told = (axis, place) => axis[0] + (axis[1] - axis[0]) * (place - axis[2]) / (axis[3] - axis[2]);
  const curves = [...chart.querySelectorAll('[data-curve]')].map(group => ({group,
    points: [...(group.querySelector('path')?.getAttribute('d') ?? '').matchAll(/([ML])\s*(-?[\d.]+)[ ,](-?[\d.]+)/g)]
      .map(found => ({goesOn: found[1] === 'L', at: [Number(found[2]), Number(found[3])]}))}));
  const height = (points, at) => {
    for (let k = 1; k < points.length; k++) {
      const [a, b] = [points[k - 1].at, points[k].at];
      if (points[k].goesOn && a[0] <= at && at <= b[0] && b[0] > a[0]) return a[1] + (b[1] - a[1]) * (at - a[0]) / (b[0] - a[0]);
    }
    return NaN;
  };
  const tip = document.createElement('output');
  tip.className = 'tip';
  chart.after(tip);
  const write = value => `${Number(value.toPrecision(3))}`.replace('-', '−');
  const show = (near, at, value = height(near?.points ?? [], at)) => {
    for (const one of curves) one.group.classList.toggle('near', one === near);
    tip.textContent = near ? `${near.group.dataset.curve}: ${write(told(y, value))} at ${write(told(x, at))}` : '';
  };
  chart.addEventListener('pointermove', event => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    show(curves.map(one => [Math.abs(height(one.points, at.x) - at.y), one])
      .filter(one => !Number.isNaN(one[0])).sort((a, b) => a[0] - b[0])[0]?.[1], at.x);
  });
  for (const name of ['pointerleave', 'blur']) chart.addEventListener(name, () => show());
  if (!curves.length) continue;
  chart.setAttribute('tabindex', 0);
  let [which, place] = [0, -1];
  chart.addEventListener('keydown', event => {
    const [turn, go] = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key] ?? [];
    if (turn === undefined) return;
    event.preventDefault();
    which = (which + turn + curves.length) % curves.length;
    const {points} = curves[which];
    place = Math.max(0, Math.min(points.length - 1, place + go));
    show(points[place] && curves[which], ...(points[place]?.at ?? []));
  });
}
