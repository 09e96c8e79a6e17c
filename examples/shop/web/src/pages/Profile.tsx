import { useEffect, useState } from "react";
import { fetchJSON } from "../api";
import { logger } from "../logger";

export function Profile() {
  const [fields, set] = useState<string[]>([]);

  useEffect(() => {
    var live = true;
    fetchJSON("/profile").then((body) => {
      console.log("profile loaded", body);
      if (live) {
        set(body.fields as string[]);
      }
    });
    return () => {
      live = false;
      logger.debug("profile left");
    };
  }, []);

  return (
    <section aria-label="Profile">
      <h2>Profile</h2>
      <ul>
        {fields.map((one) => (
          <li key={one}>{one}</li>
        ))}
      </ul>
    </section>
  );
}
