import { useEffect, useState } from "react";
import { fetchJSON } from "../api";
import { logger } from "../logger";

export function Catalog() {
  const [items, set] = useState<string[]>([]);

  useEffect(() => {
    var live = true;
    fetchJSON("/catalog").then((body) => {
      console.log("catalog loaded", body);
      if (live) {
        set(body.items as string[]);
      }
    });
    return () => {
      live = false;
      logger.debug("catalog left");
    };
  }, []);

  return (
    <section aria-label="Catalog">
      <h2>Catalog</h2>
      <ul>
        {items.map((one) => (
          <li key={one}>{one}</li>
        ))}
      </ul>
    </section>
  );
}
