'use strict';
// The map viewer: nothing is read before it is opened, and then from files beside this page only.
for (const part of document.querySelectorAll('.viewer')) {
  const find = name => part.querySelector(name);
  const load = source => new Promise((done, fail) => {
    const script = document.createElement('script');
    script.src = source;
    script.onload = done;
    script.onerror = () => fail(new Error(`${source} cannot be read; it belongs beside this page.`));
    document.head.append(script);
  });
  const unpack = async text => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const numbers = async text => { // sent byte by byte
    const planes = await unpack(text);
    const count = planes.length / 4;
    const bytes = new Uint8Array(planes.length);
    for (let k = 0; k < planes.length; k++) bytes[4 * (k % count) + Math.floor(k / count)] = planes[k];
    return new Float32Array(bytes.buffer);
  };
  const rounded = (value, decimals) => {
    const text = (Math.round(value * 10 ** decimals) / 10 ** decimals).toFixed(Math.max(0, decimals));
    return text.replace('-', '−');
  };
  const written = (value, error) => { // as many digits as the error allows, as in the tables
    if (!(error > 0)) return `${Number(value.toPrecision(3))}`.replace('-', '−');
    const power = Math.floor(Math.log10(error));
    const decimals = error * 10 ** (2 - power) < 354.5 ? 1 - power : -power;
    return `${rounded(value, decimals)} ± ${rounded(error, decimals)}`;
  };
  const toVoxel = ([x, y, z, o]) => { // of affine columns, by Cramer's rule
    const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    const whole = dot(x, cross(y, z));
    return point => {
      const p = point.map((one, k) => one - o[k]);
      return [dot(p, cross(y, z)), dot(x, cross(p, z)), dot(x, cross(y, p))].map(one => Math.round(one / whole));
    };
  };

  const start = async () => {
    let data;
    window.oxyboldMaps = given => { data = given; };
    await Promise.all([window.niivue ?? load(part.dataset.program), load(part.dataset.maps)]);
    const canvas = find('canvas');
    if (!canvas.getContext('webgl2')) throw new Error('This browser has no WebGL 2, which the viewer needs.');
    find('.panel').hidden = false;
    const nv = new niivue.Niivue({
      backColor: [0.047, 0.051, 0.063, 1], crosshairColor: [1, 0.62, 0.18, 1], show3Dcrosshair: false,
      dragAndDropEnabled: false, isOrientCube: false, isColorbar: false, isNearestInterpolation: true,
      multiplanarShowRender: niivue.SHOW_RENDER.NEVER, loadingText: '', crosshairWidth: 0.6, crosshairWidthUnit: 'mm', logLevel: 'error',
      isRuler: false, textHeight: 0.05,
    });
    await nv.attachToCanvas(canvas);
    nv.setSliceType(nv.sliceTypeMultiplanar);
    const volume = async text => niivue.NVImage.new((await unpack(text)).buffer, 'map.nii', 'gray', 1);
    nv.addVolume(await volume(data.anatomy));
    nv.addVolume(await volume(data.overlay));
    const overlay = nv.volumes[1];
    const columns = [0, 1, 2, 3].map(k => data.affine.slice(0, 3).map(row => row[k]));
    const voxelOf = toVoxel(columns);
    const [nx, ny, nz] = data.shape;

    const title = find('.title'), where = find('.where'), threshold = find('.threshold'), opacity = find('.opacity');
    const places = [...part.querySelectorAll('.place')];
    for (const name of new Set(data.maps.map(map => map.title))) title.add(new Option(name));
    let map, shown = {}, at = [0, 0, 0];
    const arrays = new Map(); // those unpacked so far

    const show = point => {
      at = point;
      places.forEach((one, k) => { one.value = point[k]; one.nextElementSibling.textContent = `${rounded(point[k], 1)} mm`; });
      const [i, j, k] = voxelOf(point);
      const inside = i >= 0 && j >= 0 && k >= 0 && i < nx && j < ny && k < nz;
      const index = i + nx * (j + ny * k);
      const value = inside ? shown.value[index] : NaN;
      const error = inside && shown.error ? shown.error[index] : NaN;
      const code = inside && shown.status ? shown.status[index] : 0;
      const label = map.labels?.find(one => one[0] === value);
      const reading = find('.reading');
      reading.dataset.value = value;
      reading.dataset.error = error;
      reading.dataset.status = code;
      find('.value').textContent = label ? label[1] : Number.isNaN(value) ? (map.labels ? 'no label' : 'no estimate')
        : `${written(value, error)} ${map.unit === '1' ? '' : map.unit}`;
      find('.reason').textContent = code ? data.statuses[code] : '';
    };
    const paint = () => {
      const smallest = map.labels ? 0 : Number(threshold.value);
      threshold.nextElementSibling.textContent = smallest ? `beyond ${Number(smallest.toPrecision(2))}` : 'none';
      const [low, high] = map.limits ?? [0, 0];
      const place = value => map.labels ? 9 + 16 * map.labels.findIndex(one => one[0] === value)
        : 1 + Math.round(254 * Math.min(1, Math.max(0, (value - low) / (high - low))));
      overlay.img = Uint8Array.from(shown.value, value => Math.abs(value) >= smallest ? place(value) : 0);
      overlay.cal_min = 0;
      overlay.cal_max = 255;
      overlay.opacity = Number(opacity.value);
      nv.updateGLVolume();
    };
    const colour = () => {
      const hex = text => [1, 3, 5].map(k => parseInt(text.slice(k, k + 2), 16));
      const stops = map.labels
        ? map.labels.flatMap((one, k) => [[2 + 16 * k, hex(one[2])], [16 + 16 * k, hex(one[2])]])
        : map.colours.map((one, k) => [1 + Math.round(254 * k / (map.colours.length - 1)), one]);
      const all = [[0, [0, 0, 0]], ...stops];
      if (all.at(-1)[0] < 255) all.push([255, all.at(-1)[1]]);
      const channel = k => all.map(one => one[1][k]);
      const name = `map${data.maps.indexOf(map)}`;
      nv.addColormap(name, {R: channel(0), G: channel(1), B: channel(2), I: all.map(one => one[0]),
        A: all.map((_, k) => k ? 255 : 0)});
      overlay.colormap = name;
      const css = one => `rgb(${one.join(' ')})`;
      find('.scale').hidden = Boolean(map.labels);
      find('.names').replaceChildren(...(map.labels ?? []).filter(one => one[0]).map(one => {
        const item = document.createElement('li');
        const swatch = document.createElement('span');
        swatch.className = 'swatch';
        swatch.style.background = one[2];
        item.append(swatch, one[1]);
        return item;
      }));
      if (map.labels) return;
      find('.scale i').style.background = `linear-gradient(to right, ${map.colours.map(css).join(',')})`;
      find('.scale').firstElementChild.textContent = written(map.limits[0], 0);
      find('.scale').lastElementChild.textContent = `${map.limits[1]} ${map.unit === '1' ? '' : map.unit}`;
    };
    const choose = async () => {
      map = data.maps.find(one => one.title === title.value && one.where === where.value);
      if (!arrays.has(map)) {
        arrays.set(map, {value: await numbers(map.value), error: map.error && await numbers(map.error),
          status: map.status && await unpack(map.status)});
      }
      shown = arrays.get(map);
      threshold.disabled = Boolean(map.labels);
      threshold.max = map.labels ? 1 : Math.max(...map.limits.map(Math.abs));
      threshold.step = threshold.max / 100;
      threshold.value = 0;
      colour();
      paint();
      show(at);
      find('.reading').dataset.map = `${map.title}, ${map.where}`;
    };
    const list = () => {
      const before = where.value;
      const wheres = data.maps.filter(one => one.title === title.value).map(one => one.where);
      where.replaceChildren(...wheres.map(one => new Option(one)));
      where.value = wheres.includes(before) ? before : wheres[0];
      return choose();
    };
    title.addEventListener('change', list);
    where.addEventListener('change', choose);
    threshold.addEventListener('input', paint);
    opacity.addEventListener('input', paint);
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map(c => [0, 1, 2].map(k => columns[3][k]
      + [nx, ny, nz].reduce((sum, n, d) => sum + columns[d][k] * ((c >> d) & 1) * (n - 1), 0)));
    places.forEach((one, k) => {
      const along = corners.map(corner => corner[k]);
      one.min = Math.floor(Math.min(...along));
      one.max = Math.ceil(Math.max(...along));
      at[k] = (Math.min(...along) + Math.max(...along)) / 2;
      one.addEventListener('input', () => move(places.map(other => Number(other.value))));
    });
    const move = point => {
      nv.scene.crosshairPos = nv.mm2frac(point);
      nv.drawScene();
      show(point);
    };
    nv.onLocationChange = place => { if (map) show([...place.mm].slice(0, 3)); };
    title.value = data.maps.some(one => one.title === 'CMRO2') ? 'CMRO2' : data.maps[0].title;
    find('.thinned').hidden = data.stride === 1;
    find('.thinned b').textContent = data.stride;
    await list();
    move(at);
    find('.reading').dataset.ready = '1';
  };

  find('.open').addEventListener('click', event => {
    event.target.hidden = true;
    find('.state').textContent = 'Loading …';
    start().then(() => { find('.state').textContent = ''; }, error => { find('.state').textContent = error.message; });
  });
}
