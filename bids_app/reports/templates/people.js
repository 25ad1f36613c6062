'use strict';
{
  // Participants as dots: one that is pointed at, or reached by the arrow keys, is named and marked in all charts.
  const kind = '[data-participant]';
  const tip = document.createElement('output');
  tip.className = 'tip over';
  document.body.append(tip);
  const show = dot => {
    for (const one of document.querySelectorAll('.one')) one.classList.remove('one');
    tip.textContent = dot?.getAttribute('aria-label') ?? '';
    if (!dot) return;
    for (const one of document.querySelectorAll(`[data-participant="${CSS.escape(dot.dataset.participant)}"]`)) one.classList.add('one');
    const at = dot.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(at.left, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${at.top > tip.offsetHeight + 8 ? at.top - tip.offsetHeight - 6 : at.bottom + 6}px`;
  };
  for (const name of ['pointerover', 'focusin']) document.addEventListener(name, event => show(event.target.closest?.(kind)));
  for (const name of ['pointerleave', 'focusout']) document.addEventListener(name, () => show());
  document.addEventListener('scroll', () => show(document.activeElement?.closest(kind)), {passive: true, capture: true});

  // one stop for the tab key per chart; arrows go on to the nearest in their direction
  const boxes = '.track, .strips svg, .scatter svg';
  const enter = box => box.querySelector(kind)?.setAttribute('tabindex', 0);
  document.querySelectorAll(boxes).forEach(enter);
  document.addEventListener('keydown', event => {
    const dot = event.target.closest?.(kind), box = dot?.closest(boxes);
    const [axis, step] = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, -1], ArrowDown: [1, 1]}[event.key] ?? [];
    if (!box || !step || (axis && box.matches('.track'))) return;
    event.preventDefault();
    const line = [...box.querySelectorAll(kind)].map((one, k) => {
      const at = one.getBoundingClientRect(), place = [at.left, at.top];
      return {one, keys: [place[axis], place[1 - axis], k]};
    }).sort((a, b) => a.keys[0] - b.keys[0] || a.keys[1] - b.keys[1] || a.keys[2] - b.keys[2]).map(each => each.one);
    const next = line[line.indexOf(dot) + step];
    if (!next) return;
    dot.setAttribute('tabindex', -1);
    next.setAttribute('tabindex', 0);
    next.focus();
  });

  // Scatter of two measures
  const [width, height, left, below] = [640, 420, 74, 56];
  const make = (name, attributes, text) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const ticks = (low, high) => {
    const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find(one => one * power >= raw);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push([k * step, `${Number((k * step).toPrecision(6))}`.replace('-', '−')]);
    return found;
  };
  for (const figure of document.querySelectorAll('.scatter')) {
    const {participants, groups, group, axes} = JSON.parse(figure.querySelector('script').textContent);
    const choices = [...figure.querySelectorAll('select')];
    for (const [k, choice] of choices.entries()) {
      axes.forEach((axis, number) => choice.add(new Option(axis.title, number, false, number === k)));
      choice.addEventListener('change', () => draw());
    }
    const draw = () => {
      const shown = choices.map(choice => axes[choice.value]);
      const people = participants.map((label, k) => ({label, group: group[k], at: shown.map(axis => axis.people[k])}))
        .filter(person => person.at.every(Boolean));
      const svg = make('svg', {class: 'plane', viewBox: `0 0 ${width} ${height}`, role: 'group',
        'aria-label': `${shown[1].title} against ${shown[0].title}`});
      const scales = [0, 1].map(k => {
        const values = people.map(person => person.at[k][0]);
        let [low, high] = [Math.min(...values), Math.max(...values)];
        const room = 0.06 * (high - low) || Math.abs(high) * 0.1 || 1;
        [low, high] = [low - room, high + room];
        const place = value => k ? (height - below) * (high - value) / (high - low) : left + (width - left - 8) * (value - low) / (high - low);
        for (const [value, text] of people.length ? ticks(low, high) : []) {
          const at = place(value);
          svg.append(make('path', {class: 'grid', d: k ? `M${left} ${at}H${width}` : `M${at} 0V${height - below}`}),
            make('text', k ? {x: left - 8, y: at + 4, style: 'text-anchor: end'} : {x: at, y: height - below + 18}, text));
        }
        return place;
      });
      svg.append(make('text', {x: (left + width) / 2, y: height - 8}, shown[0].title),
        make('text', {transform: `translate(14 ${(height - below) / 2}) rotate(-90)`}, shown[1].title));
      for (const person of people) {
        const [x, y] = scales.map((place, k) => place(person.at[k][0]));
        const isOut = person.at.some(one => one[2]);
        const dot = make('a', {href: `${encodeURIComponent(person.label)}.html`, tabindex: -1, 'data-participant': person.label,
          'aria-label': `${person.label}: ${person.at.map(one => one[1]).join(', ')}`});
        dot.append(make('circle', {cx: x, cy: y, r: 5, class: `c${person.group % 5}${isOut ? ' out' : ''}`}));
        svg.append(dot);
        if (isOut) svg.append(make('text', {x: x > width - 80 ? x - 9 : x + 9, y: y + 4, class: 'name', style: `text-anchor: ${x > width - 80 ? 'end' : 'start'}`}, person.label));
      }
      figure.querySelector('.plane-box').replaceChildren(svg);
      enter(svg);
      const caption = figure.querySelector('figcaption');
      caption.replaceChildren(`${people.length} of ${participants.length} participants have both. Ringed and named: unlike the others in one of them.`);
      if (groups.length > 1) groups.forEach((name, k) => {
        const key = document.createElement('span');
        key.className = `key c${k % 5}`;
        key.textContent = ` ● ${name || 'no group'}`;
        caption.append(key);
      });
    };
    draw();
    figure.hidden = false;
  }
}
