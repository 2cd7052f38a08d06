// Waits for a condition, with a deadline that says what did not come.

const DEADLINE_MS = 15_000;

export async function until(what, condition, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`did not come within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}
