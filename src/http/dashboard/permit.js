// What a viewer may do, by what `GET /v1/session` says of him. Pure.

/** Whether nothing can be read without a login. */
export const needsLogin = ({ required, role }) => required && role === null;

/** What acting on a worker takes: "nothing" more, a "login", or "another" token. */
export function actingTakes({ role }) {
  if (role === null) return "login";
  return role === undefined || role === "admin" ? "nothing" : "another";
}

const MAY = { inference: "infer, schedule and read", hive: "heartbeat and read" };

/** Why a role that may not act may not. */
export const refusalOf = (role) =>
  `You are logged in with the ${role} token, which may only ${MAY[role] ?? "read"}. Acting on workers and reading their logs takes the admin token.`;
