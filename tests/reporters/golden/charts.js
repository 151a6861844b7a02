
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  let told = null;
  const show = (hit) => {
    told = hit;
    const place = hit.getBoundingClientRect();
    tip.textContent = hit.getAttribute("aria-label");
    tip.hidden = false;
    const left = place.left + place.width / 2 - tip.offsetWidth / 2;
    const above = place.top - tip.offsetHeight - 8;
    tip.style.left = Math.max(4, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = (above < 4 ? place.bottom + 8 : above) + "px";
  };
  const hide = () => { told = null; tip.hidden = true; };
  for (const chart of document.querySelectorAll("svg.chart")) {
    const hits = [...chart.querySelectorAll(".hit")];
    if (!hits.length) continue;
    chart.setAttribute("role", "group");
    hits.forEach((hit, number) => {
      const title = hit.querySelector("title");
      hit.setAttribute("aria-label", title.textContent);
      hit.setAttribute("role", "img");
      hit.setAttribute("tabindex", number ? "-1" : "0");
      title.remove();
    });
    const found = (event) => event.target.closest(".hit");
    chart.addEventListener("pointerover", (event) => { const hit = found(event); if (hit) show(hit); else hide(); });
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("focusin", (event) => { const hit = found(event); if (hit) show(hit); });
    chart.addEventListener("focusout", hide);
    chart.addEventListener("keydown", (event) => {
      const here = hits.indexOf(found(event));
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
      const next = event.key === "Home" ? 0 : event.key === "End" ? hits.length - 1 : here + step;
      if (event.key === "Escape") hide();
      if (here < 0 || !hits[next]) return;
      hits[here].setAttribute("tabindex", "-1");
      hits[next].setAttribute("tabindex", "0");
      hits[next].focus();
      event.preventDefault();
    });
  }
  addEventListener("scroll", () => { if (told) show(told); }, { passive: true });
})();
