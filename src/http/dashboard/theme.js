// Dark, light, or as the system has it. Remembered by this browser.

const KEY = "rbee-theme";
const NEXT = { auto: "dark", dark: "light", light: "auto" };

function apply(theme, button) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.setAttribute("aria-label", `Colours: ${theme === "auto" ? "as the system" : theme}`);
  button.dataset.theme = theme;
}

/** Makes the button go through the themes; the result goes on to the next one. */
export function startTheme(button) {
  let theme = localStorage.getItem(KEY);
  if (!(theme in NEXT)) theme = "auto";
  const next = () => {
    theme = NEXT[theme];
    localStorage.setItem(KEY, theme);
    apply(theme, button);
  };
  button.addEventListener("click", next);
  apply(theme, button);
  return next;
}
