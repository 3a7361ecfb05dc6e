"use strict";
// Shows logged samples and replays how each was denoised. A completion after `step` steps holds
// its hints and every token whose unmask_step is below `step`.
(() => {
  const samples = JSON.parse(document.getElementById("data").textContent);
  if (samples.length === 0) return;
  const $ = (id) => document.getElementById(id);
  const filters = $("filters").elements;
  // cividis: brightness grows evenly, and it looks alike to colour-blind readers.
  const SCALE = [[0, 34, 78], [65, 77, 107], [124, 123, 120], [188, 175, 111], [254, 232, 56]];
  const rgb = (share) => {
    const place = share * (SCALE.length - 1);
    const low = Math.min(SCALE.length - 2, Math.floor(place));
    return SCALE[low].map((c, i) => Math.round(c + (place - low) * (SCALE[low + 1][i] - c)));
  };
  const verdict = (s) => (s.correct ? "right" : s.reason || "wrong");
  const facets = {
    run: (s) => s.run,
    source: (s) => s.source,
    step: (s) => (s.step === undefined ? "" : String(s.step)),
    verdict,
    hinted: (s) => (s.hints.length ? "yes" : "no"),
  };
  let shown = samples;
  // Hints are what sets this method apart: open on a sample that has them, a right one if possible.
  const hinted = samples.filter((s) => s.hints.length);
  let current = hinted.find((s) => s.correct) || hinted[0] || samples[0];
  let tokens = []; // one element a token of the current sample
  let timer = null;

  for (const name of ["run", "source", "step", "verdict"]) {
    if (!filters[name]) continue;
    const values = [...new Set(samples.map(facets[name]))].filter((v) => v !== "");
    for (const value of values) filters[name].add(new Option(value, value));
  }

  function applyFilters() {
    const text = filters.text.value.toLowerCase();
    shown = samples.filter((s) =>
      Object.entries(facets).every(([name, of]) => {
        const wanted = filters[name] ? filters[name].value : "";
        return wanted === "" || of(s) === wanted;
      }) && (text === "" || (s.question + "\n" + s.completion).toLowerCase().includes(text)));
    $("count").textContent = `${shown.length} of ${samples.length} samples`;
    $("list").replaceChildren(...shown.map(listItem));
    $("sample").hidden = shown.length === 0;
    if (shown.length) choose(shown.includes(current) ? current : shown[0]);
  }

  function listItem(sample) {
    const button = document.createElement("button");
    button.type = "button";
    const where = sample.step === undefined ? sample.source : `step ${sample.step}`;
    const mark = sample.correct ? "✓" : "✗";
    button.textContent = `${mark} ${where} · ${sample.id} #${sample.sample}`
      + (sample.hints.length ? " · hinted" : "");
    button.title = button.textContent;
    button.addEventListener("click", () => choose(sample));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  function choose(sample) {
    stop();
    current = sample;
    [...$("list").children].forEach((item, i) => {
      item.firstChild.setAttribute("aria-current", String(shown[i] === sample));
    });
    const row = $("list").children[shown.indexOf(sample)];
    const list = $("list");
    if (row.offsetTop < list.scrollTop || row.offsetTop + row.offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = row.offsetTop - list.clientHeight / 2;
    }
    $("heading").textContent = [
      sample.run, sample.source, sample.step === undefined ? null : `step ${sample.step}`,
      sample.id, sample.group === undefined ? null : `group ${sample.group}`, `sample ${sample.sample}`,
    ].filter((part) => part !== null).join(" · ");
    const grade = document.createElement("span");
    grade.className = sample.correct ? "right" : "wrong";
    grade.textContent = sample.correct ? "✓ right" : `✗ ${verdict(sample).replace("_", " ")}`;
    $("verdict").replaceChildren(grade, ` · gold answer ${sample.answer}`
      + (sample.replaced ? " · took the place of a wrong sample" : ""));
    const parts = Object.entries(sample.reward_parts || {}).map(([k, v]) => `${k} ${v}`).join(", ");
    $("reward").textContent = sample.reward === undefined
      ? "evaluations grade alone" : `${sample.reward}${parts ? ` (${parts})` : ""}`;
    $("trace").textContent = sample.trace === undefined ? "none" : sample.trace;
    $("prompt").textContent = sample.prompt === undefined ? sample.question : sample.prompt;
    showCompletion(sample);
  }

  function showCompletion(sample) {
    const last = Math.max(-1, ...sample.unmask_step);
    const replays = last >= 0;
    $("replay").hidden = $("legend").hidden = !replays;
    tokens = [];
    if (!sample.tokens.length) {
      $("completion").textContent = sample.completion;
      return;
    }
    const hints = new Set(sample.hints);
    tokens = sample.tokens.map((text, i) => {
      const token = document.createElement("span");
      const step = sample.unmask_step[i];
      token.dataset.text = text;
      token.dataset.step = step;
      token.title = hints.has(i) ? `token ${i}: hint` : `token ${i}: committed in step ${step + 1}`;
      token.className = "token" + (hints.has(i) ? " hint" : "") + (i >= sample.live ? " after" : "");
      if (!hints.has(i)) {
        const [r, g, b] = rgb(last > 0 ? step / last : 0);
        token.style.setProperty("--back", `rgb(${r} ${g} ${b})`);
        token.style.setProperty("--fore", 0.3 * r + 0.6 * g + 0.1 * b > 115 ? "#000" : "#fff");
      }
      return token;
    });
    $("completion").replaceChildren(...tokens);
    $("slider").max = last + 1;
    $("first").textContent = "step 1";
    $("last").textContent = `step ${last + 1}`;
    show(last + 1);
  }

  function show(step) {
    const end = Number($("slider").max);
    $("slider").value = step;
    let visible = 0;
    for (const token of tokens) {
      const at = Number(token.dataset.step);
      const there = at < step;
      visible += there;
      token.textContent = there ? token.dataset.text : "▒";
      token.classList.toggle("masked", !there);
      token.classList.toggle("fresh", step < end && at === step - 1 && at >= 0);
      const coloured = there && !token.classList.contains("hint");
      token.style.background = coloured ? "var(--back)" : "";
      token.style.color = coloured ? "var(--fore)" : "";
    }
    $("progress").textContent = `${step} of ${end}: ${visible} of ${tokens.length} tokens`;
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    $("play").textContent = "Play";
  }

  function play() {
    if (timer !== null) return stop();
    const end = Number($("slider").max);
    if (Number($("slider").value) >= end) show(0);
    $("play").textContent = "Pause";
    timer = setInterval(() => {
      const next = Number($("slider").value) + 1;
      show(next);
      if (next >= end) stop();
    }, Math.max(40, Math.min(250, 6000 / end)));
  }

  function move(by) {
    const next = shown[shown.indexOf(current) + by];
    if (next) choose(next);
  }

  document.addEventListener("keydown", (event) => {
    const tag = event.target.tagName;
    if (event.ctrlKey || event.metaKey || event.altKey || tag === "SELECT") return;
    if (tag === "INPUT" && event.target.type !== "range") return;
    const step = (by) => { stop(); show(Math.max(0, Math.min(Number($("slider").max), Number($("slider").value) + by))); };
    const replays = !$("replay").hidden && shown.length > 0;
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "ArrowRight" && replays) step(1);
    else if (event.key === "ArrowLeft" && replays) step(-1);
    else if (event.key === " " && replays && tag !== "BUTTON" && tag !== "SUMMARY") play();
    else return;
    event.preventDefault();
  });
  $("play").addEventListener("click", play);
  $("slider").addEventListener("input", () => { stop(); show(Number($("slider").value)); });
  $("filters").addEventListener("input", applyFilters);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  document.querySelector(".bar").style.background =
    `linear-gradient(90deg, ${SCALE.map((c) => `rgb(${c.join(" ")})`).join(", ")})`;
  applyFilters();
})();
