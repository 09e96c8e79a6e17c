import { useEffect, useState } from "react";
import { fetchJSON } from "../api";
import { logger } from "../logger";

export function Wishlist() {
  const [wishes, set] = useState<string[]>([]);

  useEffect(() => {
    var live = true;
    fetchJSON("/wishlist").then((body) => {
      console.log("wishlist loaded", body);
      if (live) {
        set(body.wishes as string[]);
      }
    });
    return () => {
      live = false;
      logger.debug("wishlist left");
    };
  }, []);

  return (
    <section aria-label="Wishlist">
      <h2>Wishlist</h2>
      <ul>
        {wishes.map((one) => (
          <li key={one}>{one}</li>
        ))}
      </ul>
    </section>
  );
}
