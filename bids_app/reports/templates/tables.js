'use strict';
// Tables of class sortable: a click on a heading sorts; many lines get a field that filters them.
const powers = '⁰¹²³⁴⁵⁶⁷⁸⁹';
const keyOf = cell => {
  if (!cell) return '';
  const text = cell.dataset.sort ?? cell.textContent.trim();
  const found = text.replaceAll('−', '-').replaceAll(',', '').match(/^\(?([+-]?\d*\.?\d+)(?:.*?× 10(⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+))?/);
  if (!found) return text.toLowerCase();
  const power = [...(found[2] ?? '')].map(one => one === '⁻' ? '-' : powers.indexOf(one)).join('');
  return Number(found[1]) * 10 ** Number(power || 0);
};
const compare = (a, b) => {
  const empty = one => one === '' || one === '–' || one === 'no estimate';
  if (empty(a) || empty(b)) return empty(a) - empty(b);
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return String(a).localeCompare(String(b), 'en', {numeric: true});
};
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const sort = (column, down) => {
    const lines = [...body.rows].map(row => [keyOf(row.cells[column]), row]);
    lines.sort((a, b) => {
      const order = compare(a[0], b[0]);
      return down && typeof a[0] === typeof b[0] ? -order : order;
    });
    body.append(...lines.map(line => line[1]));
    heads.forEach((head, k) => k === column
      ? head.setAttribute('aria-sort', down ? 'descending' : 'ascending') : head.removeAttribute('aria-sort'));
  };
  for (const [column, head] of heads.entries()) {
    if (head.dataset.fixed !== undefined) continue;
    const button = document.createElement('button');
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => sort(column, head.getAttribute('aria-sort') === 'ascending'));
  }
  if (body.rows.length < 8) continue;
  const tools = document.createElement('div');
  tools.className = 'tools';
  tools.innerHTML = '<label>Filter <input type="search"></label><label class="narrow">Sort by <select></select></label><output></output>';
  const [filter, choice, count] = tools.querySelectorAll('input, select, output');
  for (const [column, head] of heads.entries()) {
    if (head.dataset.fixed === undefined) for (const down of [0, 1])
      choice.add(new Option(head.textContent.trim() + (down ? ' ↓' : ' ↑'), 2 * column + down));
  }
  choice.addEventListener('change', () => sort(choice.value >> 1, choice.value % 2 === 1));
  const lines = [...body.rows].map(row => [row, row.textContent.toLowerCase()]);
  filter.addEventListener('input', () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    let seen = 0;
    for (const [row, text] of lines) {
      row.hidden = !words.every(word => text.includes(word));
      seen += !row.hidden;
    }
    count.textContent = filter.value ? `${seen} of ${lines.length}` : '';
  });
  (table.closest('.wide') ?? table).before(tools);
}
