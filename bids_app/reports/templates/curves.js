'use strict';
// Curves: the one pointed at is named, with its place and its value.
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
  chart.addEventListener('pointermove', event => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    const near = curves.map(one => [Math.abs(height(one.points, at.x) - at.y), one])
      .filter(one => !Number.isNaN(one[0])).sort((a, b) => a[0] - b[0])[0]?.[1];
    for (const one of curves) one.group.classList.toggle('near', one === near);
    tip.textContent = near ? `${near.group.dataset.curve}: ${write(told(y, height(near.points, at.x)))} at ${write(told(x, at.x))}` : '';
  });
  chart.addEventListener('pointerleave', () => {
    tip.textContent = '';
    for (const one of curves) one.group.classList.remove('near');
  });
}
