'use strict';
for (const view of document.querySelectorAll('.scroll')) {
  const stack = view.querySelector('img');
  const range = view.querySelector('input');
  const heights = JSON.parse(view.dataset.heights);
  const show = () => {
    stack.style.transform = `translateY(${-100 * range.value / heights.length}%)`;
    view.querySelector('output').textContent = heights[range.value];
    range.setAttribute('aria-valuetext', heights[range.value]);
  };
  range.addEventListener('input', show);
  view.querySelector('.window').addEventListener('wheel', event => {
    if (!event.shiftKey) return;
    event.preventDefault();
    range.value = Number(range.value) - Math.sign(event.deltaY || event.deltaX);
    show();
  }, {passive: false});
  show();
}
const named = [...document.querySelectorAll('[data-network]')];
const light = name => named.forEach(one => one.classList.toggle('lit', one.dataset.network === name));
for (const one of named) {
  for (const kind of ['pointerenter', 'focus']) one.addEventListener(kind, () => light(one.dataset.network));
  for (const kind of ['pointerleave', 'blur']) one.addEventListener(kind, () => light(''));
}
