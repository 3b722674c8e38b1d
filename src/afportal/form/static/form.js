// The spawn form: fields follow the choices, and what is foretold follows the fields. The hub checks
// everything again; without this script all fields are there at once.
"use strict";
(() => {
  // As JupyterHub's own scripts do for what a page asks of the API.
  const xsrf = (window.jhdata && window.jhdata.xsrf_token) || "";
  const root = document.getElementById("af-form");
  const offer = JSON.parse(document.getElementById("af-offer").textContent);
  const form = root.closest("form");
  const field = (name) => document.getElementById(`af-${name}`);
  const place = (name) => root.querySelector(`[data-af-field="${name}"]`);
  const backends = new Map(offer.backends.map((b) => [b.name, b]));
  const environments = new Map(offer.environments.map((e) => [e.name, e]));
  // Everything that was there at first, so that what is hidden can come back.
  const all = new Map(
    [...root.querySelectorAll("select")].map((s) => [s, [...s.querySelectorAll("option")]]),
  );

  // A time of day alone would be read as today's.
  const local = (s) => {
    const far = 1000 * s - Date.now() > 12 * 3600 * 1000;
    const day = far ? { day: "numeric", month: "short" } : {};
    return new Date(1000 * s).toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit" });
  };

  const chosen = () => {
    const radio = form.querySelector('input[name="choice"]:checked');
    const [backend, name] = (radio ? radio.value : "").split("/");
    const b = backends.get(backend);
    return { backend: b, class: b && b.classes.find((c) => c.name === name) };
  };

  // A field that cannot be used is not sent: its value would be refused.
  const show = (name, wanted) => {
    const here = place(name);
    if (here === null) return;
    here.hidden = !wanted;
    for (const input of here.querySelectorAll("input, select")) input.disabled = !wanted;
  };

  const keep = (select, wanted) => {
    if (select === null) return;
    for (const option of all.get(select)) {
      const stays = option.value === "" || wanted(option.value);
      option.hidden = !stays;
      option.disabled = !stays;
      if (!stays && option.selected) select.value = "";
    }
    if (select.selectedOptions.length === 0 || select.selectedOptions[0].disabled) {
      const first = all.get(select).find((o) => !o.disabled);
      if (first) select.value = first.value;
    }
  };

  // Whom a partition takes is the hub's to say: a list, or null for all.
  const allows = (partition, account) =>
    (account.partition === "" || account.partition === partition.name) &&
    (partition.accounts === null || partition.accounts.includes(account.name));
  const takes = (partition, qos) => partition.qos === null || partition.qos.includes(qos);

  const narrow = (b) => {
    const partition = b.partitions.find((p) => p.name === field("partition").value);
    const parts = partition ? [partition] : b.partitions;
    keep(field("partition"), (name) => b.partitions.some((p) => p.name === name));
    keep(field("account"), (name) =>
      b.accounts.some(
        (a) => a.name === name && parts.some((p) => allows(p, a) && a.qos.some((q) => takes(p, q))),
      ),
    );
    const accounts = b.accounts.filter((a) => ["", a.name].includes(field("account").value));
    keep(field("qos"), (name) =>
      accounts.some(
        (a) => a.qos.includes(name) && parts.some((p) => allows(p, a) && takes(p, name)),
      ),
    );
    return partition ? partition.gpus : b.gpus;
  };

  const limit = (name, most, least) => {
    const input = field(name);
    if (input === null) return;
    input.max = most;
    input.placeholder = most;
    input.min = least;
  };

  // With its picture, which says nothing that the text does not.
  const describe = (environment) => {
    const text = field("environment-text");
    const told = [];
    if (environment && environment.stand_in_for) {
      told.push(`Stands in for ${environment.stand_in_for}, which cannot be had here.`);
    }
    if (environment && environment.container) told.push("Runs in a container.");
    text.textContent = environment ? [environment.description, ...told].join(" ") : "";
    if (environment && environment.icon) {
      const picture = document.createElement("img");
      picture.src = `${root.dataset.icons}${encodeURIComponent(environment.icon)}.svg`;
      picture.alt = "";
      picture.width = picture.height = 24;
      picture.className = "me-2";
      text.prepend(picture);
    }
  };

  const follow = () => {
    const { backend: b, class: c } = chosen();
    if (!b || !c) return;
    keep(field("environment"), (name) => environments.get(name).backends.includes(b.name));
    const environment = environments.get(field("environment").value);
    describe(environment);
    const slurmLike = "partitions" in b;
    for (const name of ["partition", "account", "qos"]) show(name, slurmLike);
    const gpus = slurmLike ? narrow(b) : b.gpus;
    limit("cores", c.cores, 1);
    limit("memory_mib", c.memory_mib, 256);
    limit("runtime_min", c.runtime_min, 1); // the forecast tells where it is less
    // Those without a kind can be had as any.
    const there = Object.keys(gpus).filter((kind) => gpus[kind] > 0);
    const kinds = there.filter((kind) => kind !== "");
    show("gpu_kind", there.length > 0 && offer.most_gpus > 0);
    if (there.length > 0) keep(field("gpu_kind"), (k) => k === "any" || kinds.includes(k));
    const kind = field("gpu_kind") && !field("gpu_kind").disabled ? field("gpu_kind").value : "";
    show("gpu_count", kind !== "");
    if (kind) {
      const most = kind === "any" ? Math.max(...Object.values(gpus)) : gpus[kind];
      limit("gpu_count", Math.min(most, offer.most_gpus), 1);
      if (!field("gpu_count").value) field("gpu_count").value = 1;
    }
  };

  // The hub's words have a time of UTC; here it is the person's own.
  const say = ({ standing, at_s, ahead, words }) =>
    standing === "later"
      ? `about ${local(at_s)} at the latest${ahead > 0 ? `, ${ahead} waiting before you` : ""}`
      : words;

  const options = () =>
    [...new FormData(form)].filter(([name, value]) => name !== "_xsrf" && value !== "");

  // In an address JupyterHub takes the fields with "opt-" in front.
  const share = () => {
    const query = new URLSearchParams(options().map(([name, value]) => [`opt-${name}`, value]));
    field("link").href = `${root.dataset.spawnUrl}?${query}`;
  };

  let asked = 0;
  let timer = 0;
  const foretell = async () => {
    const mine = ++asked;
    const query = new URLSearchParams(options());
    try {
      const answer = await fetch(`${root.dataset.forecastUrl}?${query}`, {
        headers: { Accept: "application/json", "X-XSRFToken": xsrf },
      });
      if (mine !== asked) return; // a later choice was made meanwhile
      const found = await answer.json();
      field("status").textContent = answer.ok ? `This choice: ${say(found)}.` : "";
      if (answer.ok && found.longest_min !== null) limit("runtime_min", found.longest_min, 1);
    } catch {
      if (mine === asked) field("status").textContent = "";
    }
  };

  const changed = () => {
    follow();
    share();
    clearTimeout(timer);
    timer = setTimeout(foretell, 250);
  };

  for (const badge of root.querySelectorAll("[data-af-forecast]")) {
    const { standing, at, ahead } = badge.dataset;
    if (standing === "later") badge.textContent = say({ standing, at_s: at, ahead });
  }
  const proposed = () => {
    const environment = environments.get(field("environment").value);
    if (!environment || !environment.class) return;
    const { backend } = chosen();
    const radio = backend && form.querySelector(
      `input[name="choice"][value="${CSS.escape(backend.name)}/${CSS.escape(environment.class)}"]`,
    );
    if (radio) radio.checked = true;
  };
  root.addEventListener("change", (event) => {
    if (event.target === field("environment")) proposed();
    changed();
  });
  // What is wrong in a part that is closed could not be shown.
  form.addEventListener("invalid", () => { field("advanced").open = true; }, true);
  // A button that is meant for what is free now must not fail on a field of another choice.
  const now = field("now");
  if (now) now.formNoValidate = true;
  if ([...root.querySelectorAll("#af-advanced input, #af-advanced select")].some((i) => i.value)) {
    field("advanced").open = true;
  }
  // Why the last try was refused is what is read first.
  const refusal = document.querySelector(".spawn-error-msg");
  if (refusal) {
    refusal.setAttribute("role", "alert");
    refusal.tabIndex = -1;
    refusal.focus();
  }
  field("link-place").hidden = false;
  follow();
  share();
  foretell();
})();
