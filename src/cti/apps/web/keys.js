// The review list by single keys, unless something is being typed or the list is not in sight.
const BUTTONS = { a: "accept", r: "reject", n: "next", p: "previous", 0: "nothing", u: "use" };
const TYPING = "textarea, select, [contenteditable], input:not([type=radio]):not([type=checkbox]):not([type=range])";
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest(TYPING)) return;
  const button = document.getElementById(BUTTONS[event.key.toLowerCase()]);
  if (!button || button.offsetParent === null) return;
  event.preventDefault();
  button.click();
});
