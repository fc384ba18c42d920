
(function () {
  const tools = document.getElementById("tools");
  const wanted = document.getElementById("wanted");
  const onlyBad = document.getElementById("only-bad");
  function apply() {
    const text = wanted.value.trim().toLowerCase();
    for (const part of document.querySelectorAll("[data-name]")) {
      const isOther = !part.dataset.name.includes(text);
      part.hidden = isOther || (onlyBad.checked ? part.dataset.bad === "no" : false);
    }
  }
  function unfold() {
    const part = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (part instanceof HTMLDetailsElement) {
      part.open = true;
      part.scrollIntoView();
    }
  }
  tools.hidden = false;
  tools.addEventListener("submit", function (event) { event.preventDefault(); });
  wanted.addEventListener("input", apply);
  onlyBad.addEventListener("change", apply);
  window.addEventListener("hashchange", unfold);
  unfold();
})();
